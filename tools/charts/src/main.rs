//! Draws bar charts of what the benchmark has measured: `charts FILE.csv DIRECTORY`.
//!
//! Each group of rows becomes one SVG file, each row a block of bars with a scale of its own: the median, and a line from the least to
//! the most. Where the bars of a row lie far apart, its scale is logarithmic, and says so.

mod draw;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs, io};

fn run(csv: &Path, directory: &Path) -> io::Result<()> {
    let rows =
        table::read(&fs::read_to_string(csv)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let mut groups: Vec<&str> = Vec::new();
    for row in &rows {
        if !groups.contains(&row.group.as_str()) {
            groups.push(&row.group);
        }
    }
    fs::create_dir_all(directory)?;
    for group in groups {
        let rows: Vec<_> = rows.iter().filter(|row| row.group == group).collect();
        let path = directory.join(format!("{}.svg", group.replace(' ', "-")));
        fs::write(&path, draw::chart(group, &rows))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [csv, directory] = arguments.as_slice() else {
        eprintln!("charts FILE.csv DIRECTORY");
        return ExitCode::from(2);
    };
    match run(Path::new(csv), Path::new(directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{csv}: {error}");
            ExitCode::FAILURE
        }
    }
}
