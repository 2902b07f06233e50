//! The file of recorded counts: `benches/instructions/recorded.txt`. It opens with what it is, then says under what circumstances the
//! counts were made, then has a line for each: workload, instructions per operation, function.

use std::fmt;

/// In place of a function: all that was counted.
pub const WHOLE: &str = "(whole)";

const OPENING: &str = "\
# Instructions per operation of the hot paths: the ratchet of `make instructions`. Written by `make instructions-record`; do not edit.
#
# An operation is an event; of checkpoint-save, a save. A function has what it calls counted in, libc included; only functions of the
# library with 2 % of their workload are here. What of them was inlined is in the function that it was inlined into.
#
# The compiler decides that, and with libc it decides how many instructions there are. So with another compiler or libc than these
# only the lines (whole) are compared, and a rise there may be the compiler's; on another architecture, or a processor with other
# extensions, nothing is.
#
# workload, instructions, function
";

/// What counts depend on beside the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Circumstances {
    /// As rustc calls itself.
    pub compiler: String,
    /// Processor and libc.
    pub machine: String,
}

impl Circumstances {
    pub fn processor(&self) -> &str {
        self.machine.split(',').next().unwrap_or_default()
    }
}

/// One count.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    pub workload: String,
    /// Or [`WHOLE`].
    pub function: String,
    /// Per operation.
    pub instructions: f64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub circumstances: Circumstances,
    pub figures: Vec<Figure>,
}

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPENING}compiler {}\nmachine {}\n", self.circumstances.compiler, self.circumstances.machine)?;
        for Figure { workload, function, instructions } in &self.figures {
            let gap = if function == WHOLE { "\n" } else { "" };
            writeln!(f, "{gap}{workload:<15} {instructions:>9.1} {function}")?;
        }
        Ok(())
    }
}

impl Recorded {
    pub fn parse(text: &str) -> Result<Recorded, String> {
        let (mut compiler, mut machine, mut figures) = (None, None, Vec::new());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let unknown = || format!("{line:?} is no count");
            let (word, rest) = line.split_once(' ').ok_or_else(unknown)?;
            match word {
                "compiler" => compiler = Some(rest.to_owned()),
                "machine" => machine = Some(rest.to_owned()),
                workload => {
                    let (instructions, function) = rest.trim_start().split_once(' ').ok_or_else(unknown)?;
                    figures.push(Figure {
                        workload: workload.to_owned(),
                        function: function.to_owned(),
                        instructions: instructions.parse().map_err(|_| unknown())?,
                    });
                }
            }
        }
        match (compiler, machine) {
            (Some(compiler), Some(machine)) => {
                Ok(Recorded { circumstances: Circumstances { compiler, machine }, figures })
            }
            _ => Err("it does not say which compiler and machine the counts are of".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let figure = |function: &str, instructions| Figure {
            workload: "append-one".to_owned(),
            function: function.to_owned(),
            instructions,
        };
        let recorded = Recorded {
            circumstances: Circumstances {
                compiler: "rustc 1.85.0 (abc)".to_owned(),
                machine: "x86_64, glibc 2.36".to_owned(),
            },
            figures: vec![figure(WHOLE, 2500.5), figure("<batpak::A as B>::c", 1250.0)],
        };
        assert_eq!(Recorded::parse(&recorded.to_string()), Ok(recorded.clone()));
        assert_eq!(recorded.circumstances.processor(), "x86_64");
    }

    #[test]
    fn a_file_that_says_less_is_refused() {
        assert!(Recorded::parse("append-one 1.0 (whole)\n").is_err());
        assert!(Recorded::parse("compiler a\nmachine b\nappend-one many (whole)\n").is_err());
    }
}
