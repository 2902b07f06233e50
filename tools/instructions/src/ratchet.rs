//! What may change: a count may rise by so much above the recorded one and no more.

use std::fmt;

use crate::recorded::{Circumstances, Figure, WHOLE};

pub const TOLERANCE_PERCENT: f64 = 5.0;
/// A function with less of its workload is not compared.
const SHARE_PERCENT_MIN: f64 = 2.0;

/// What can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Everything,
    /// Whole workloads: functions are split in other ways.
    Wholes,
    /// Other instructions altogether.
    Nothing,
}

pub fn scope(recorded: &Circumstances, now: &Circumstances) -> Scope {
    if recorded.processor() != now.processor() {
        Scope::Nothing
    } else if recorded != now {
        Scope::Wholes
    } else {
        Scope::Everything
    }
}

/// One difference between what was recorded and what is.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// More than is allowed.
    Rose { recorded: Figure, now: f64 },
    /// So much less that it is worth keeping.
    Fell { recorded: Figure, now: f64 },
    /// A workload that has no recorded count, or none any more: nothing holds it.
    Unmatched { workload: String },
    /// A function that no longer is one.
    Gone { recorded: Figure },
    /// A function that was none, or had too small a share.
    New { now: Figure },
}

impl Change {
    /// It fails the check.
    pub fn is_rise(&self) -> bool {
        matches!(self, Change::Rose { .. } | Change::Unmatched { .. })
    }

    /// It passes, and the ratchet holds it only once it is recorded.
    pub fn is_worth_recording(&self) -> bool {
        !self.is_rise()
    }

    fn percent(&self) -> f64 {
        match self {
            Change::Rose { recorded, now } | Change::Fell { recorded, now } => {
                (now / recorded.instructions - 1.0) * 100.0
            }
            _ => 0.0,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = self.percent();
        match self {
            Change::Rose { recorded: Figure { workload, function, instructions }, now } => {
                write!(
                    f,
                    "{workload}: {function} rose by {percent:.1} %, from {instructions:.1} to {now:.1} instructions"
                )
            }
            Change::Fell { recorded: Figure { workload, function, instructions }, now } => {
                write!(f, "{workload}: {function} fell by {:.1} %, from {instructions:.1} to {now:.1}", -percent)
            }
            Change::Unmatched { workload } => {
                write!(f, "{workload}: counted, or recorded, but not both; run `make instructions-record`")
            }
            Change::Gone { recorded: Figure { workload, function, .. } } => {
                write!(f, "{workload}: {function} is gone: inlined, renamed or removed")
            }
            Change::New { now: Figure { workload, function, instructions } } => {
                write!(f, "{workload}: {function} is new, with {instructions:.1} instructions; nothing holds it yet")
            }
        }
    }
}

/// Of several workloads, what has its share: whole workloads, and the functions to compare.
pub fn worth_recording(figures: &[Figure]) -> impl Iterator<Item = &Figure> {
    figures.iter().filter(|figure| {
        let whole = figures.iter().find(|whole| whole.workload == figure.workload && whole.function == WHOLE);
        let whole = whole.map_or(0.0, |whole| whole.instructions);
        figure.instructions >= whole * SHARE_PERCENT_MIN / 100.0
    })
}

fn find<'a>(figures: &'a [Figure], like: &Figure) -> Option<&'a Figure> {
    figures.iter().find(|figure| figure.workload == like.workload && figure.function == like.function)
}

/// What changed: first what fails, and of that the function that rose most; those that call it rise with it, but by less.
pub fn compare(recorded: &[Figure], now: &[Figure], scope: Scope) -> Vec<Change> {
    let is_compared = |figure: &&Figure| match scope {
        Scope::Everything => true,
        Scope::Wholes => figure.function == WHOLE,
        Scope::Nothing => false,
    };
    let mut changes = Vec::new();
    for figure in recorded.iter().filter(is_compared) {
        let tolerance = figure.instructions * TOLERANCE_PERCENT / 100.0;
        let recorded = figure.clone();
        match find(now, figure).map(|figure| figure.instructions) {
            Some(now) if now > recorded.instructions + tolerance => changes.push(Change::Rose { recorded, now }),
            Some(now) if now < recorded.instructions - tolerance => changes.push(Change::Fell { recorded, now }),
            Some(_) => {}
            None if recorded.function == WHOLE => changes.push(Change::Unmatched { workload: recorded.workload }),
            None => changes.push(Change::Gone { recorded }),
        }
    }
    for figure in worth_recording(now).filter(is_compared).filter(|figure| find(recorded, figure).is_none()) {
        changes.push(match figure.function.as_str() {
            WHOLE => Change::Unmatched { workload: figure.workload.clone() },
            _ => Change::New { now: figure.clone() },
        });
    }
    let magnitude = |change: &Change| change.percent().abs();
    changes.sort_by(|a, b| a.is_rise().cmp(&b.is_rise()).then(magnitude(a).total_cmp(&magnitude(b))).reverse());
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(of: &[(&str, f64)]) -> Vec<Figure> {
        let figure = |&(function, instructions): &(&str, f64)| Figure {
            workload: "append-one".to_owned(),
            function: function.to_owned(),
            instructions,
        };
        of.iter().map(figure).collect()
    }

    fn told(recorded: &[(&str, f64)], now: &[(&str, f64)], scope: Scope) -> Vec<String> {
        compare(&figures(recorded), &figures(now), scope).iter().map(Change::to_string).collect()
    }

    #[test]
    fn a_rise_of_six_percent_fails_and_names_the_function() {
        let recorded = figures(&[(WHOLE, 1000.0), ("batpak::append", 100.0)]);
        let changes = compare(&recorded, &figures(&[(WHOLE, 1006.0), ("batpak::append", 106.0)]), Scope::Everything);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].is_rise());
        assert_eq!(
            changes[0].to_string(),
            "append-one: batpak::append rose by 6.0 %, from 100.0 to 106.0 instructions"
        );
    }

    #[test]
    fn a_rise_of_four_percent_passes() {
        let recorded = [(WHOLE, 1000.0), ("batpak::append", 100.0)];
        assert!(told(&recorded, &[(WHOLE, 1040.0), ("batpak::append", 104.0)], Scope::Everything).is_empty());
    }

    #[test]
    fn the_function_that_rose_most_comes_first() {
        let recorded = [("fell", 100.0), (WHOLE, 1000.0), ("caller", 900.0), ("callee", 100.0)];
        let now = [("fell", 1.0), (WHOLE, 1100.0), ("caller", 1000.0), ("callee", 200.0)];
        let told = told(&recorded, &now, Scope::Everything);
        assert_eq!(told.len(), 4);
        assert!(told[0].contains("callee") && told[1].contains("caller") && told[2].contains(WHOLE), "{told:?}");
    }

    #[test]
    fn a_fall_is_told_and_passes() {
        let changes = compare(&figures(&[("f", 100.0)]), &figures(&[("f", 94.0)]), Scope::Everything);
        assert!(changes.len() == 1 && changes[0].is_worth_recording() && !changes[0].is_rise(), "{changes:?}");
        assert!(changes[0].to_string().contains("f fell by 6.0 %"));
    }

    #[test]
    fn with_another_compiler_only_wholes_are_compared() {
        let recorded = [(WHOLE, 1000.0), ("f", 100.0), ("gone", 100.0)];
        let now = [(WHOLE, 1060.0), ("f", 300.0), ("new", 300.0)];
        let told = told(&recorded, &now, Scope::Wholes);
        assert!(told.len() == 1 && told[0].contains("(whole) rose by 6.0 %"), "{told:?}");
    }

    #[test]
    fn circumstances_decide_what_is_compared() {
        let circumstances = |compiler: &str, machine: &str| Circumstances {
            compiler: compiler.to_owned(),
            machine: machine.to_owned(),
        };
        let recorded = circumstances("rustc 1", "x86_64, glibc 2.36");
        assert_eq!(scope(&recorded, &recorded), Scope::Everything);
        assert_eq!(scope(&recorded, &circumstances("rustc 2", "x86_64, glibc 2.36")), Scope::Wholes);
        assert_eq!(scope(&recorded, &circumstances("rustc 1", "x86_64, glibc 2.40")), Scope::Wholes);
        assert_eq!(scope(&recorded, &circumstances("rustc 1", "aarch64, glibc 2.36")), Scope::Nothing);
    }

    #[test]
    fn a_function_that_came_or_went_is_told_and_passes() {
        let changes = compare(&figures(&[("old", 1.0)]), &figures(&[("new", 1.0)]), Scope::Everything);
        assert!(changes.len() == 2 && !changes.iter().any(Change::is_rise), "{changes:?}");
    }

    #[test]
    fn a_workload_that_nothing_is_recorded_of_fails() {
        let changes = compare(&[], &figures(&[(WHOLE, 1.0)]), Scope::Everything);
        assert!(changes.len() == 1 && changes[0].is_rise(), "{changes:?}");
    }

    #[test]
    fn small_functions_are_not_recorded() {
        let all = figures(&[(WHOLE, 1000.0), ("large", 20.0), ("small", 19.0)]);
        assert!(worth_recording(&all).eq(&figures(&[(WHOLE, 1000.0), ("large", 20.0)])));
        assert!(compare(&all[..2], &all, Scope::Everything).is_empty());
    }

    #[test]
    fn a_function_that_lost_its_share_is_not_gone() {
        let (recorded, now) = (figures(&[(WHOLE, 1000.0), ("f", 20.0)]), figures(&[(WHOLE, 1040.0), ("f", 20.0)]));
        assert!(compare(&recorded, &now, Scope::Everything).is_empty());
    }
}
