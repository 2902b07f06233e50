//! What tests of a row print: `scorecard R5 trials=300 failures=0 seed=0x5EED killed at random` (tests/common/reliability.rs).

/// What came of some trials.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub trials: u64,
    pub failures: u64,
    /// As printed; the first one's.
    pub seed: Option<String>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        self.trials += other.trials;
        self.failures += other.failures;
        self.seed = self.seed.take().or(other.seed);
    }
}

/// Adds up what the output of one run says of a row.
pub fn read(output: &str, row: &str) -> Tally {
    let mut tally = Tally::default();
    for line in output.lines() {
        // Something that does not end its line may stand before it.
        let Some((_, told)) = line.split_once(&format!("scorecard {row} ")) else { continue };
        let value = |key: &str| told.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let number = |key: &str| value(key).and_then(|text| text.parse().ok());
        match (number("trials"), number("failures")) {
            (Some(trials), Some(failures)) => {
                tally.add(Tally { trials, failures, seed: value("seed").map(str::to_owned) });
            }
            _ => tally.failures += 1,
        }
    }
    tally
}

/// The lines that tell what a row found, or else the last ones of a run that failed without a word.
pub fn findings(output: &str, row: &str) -> Vec<String> {
    const MOST: usize = 16;
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let told = lines.iter().position(|line| line.starts_with(&format!("{row} ")));
    let first = told.unwrap_or(lines.len().saturating_sub(MOST));
    lines[first..].iter().take(MOST).map(|line| line.chars().take(400).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_of_one_row_add_up() {
        let output = "noise\nscorecard R5 trials=3 failures=0 seed=0x7 a b\ntest x ... scorecard R5 trials=4 failures=1 seed=0x8\n\
                      scorecard R50 trials=9 failures=9 seed=0x9\n";
        assert_eq!(read(output, "R5"), Tally { trials: 7, failures: 1, seed: Some("0x7".to_owned()) });
    }

    #[test]
    fn what_was_found_is_shown_from_its_first_line() {
        let output = "R7: 3 runs\nR7 SHIM_ONE=1:2\n  event 3 was lost\n\nscorecard R7 trials=3 failures=1\n";
        assert_eq!(findings(output, "R7")[..2], ["R7 SHIM_ONE=1:2", "  event 3 was lost"]);
        assert_eq!(findings("a\n\nb\n", "R7"), ["a", "b"]);
    }

    #[test]
    fn a_line_that_cannot_be_read_is_a_failure() {
        assert_eq!(read("scorecard R5 trials=many failures=0\n", "R5").failures, 1);
    }
}
