//! Did you mean: the known word nearest to one that is not known.

/// The known word that was most likely meant, if one is near enough.
pub fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    const GIVEN_MAX_CHARS: usize = 40;
    let given = given.to_ascii_lowercase();
    if given.is_empty() || given.chars().count() > GIVEN_MAX_CHARS {
        return None;
    }
    let (distance, best) = known.iter().map(|word| (edits(&given, word), *word)).min()?;
    let near_enough = distance <= 1 + best.len() / 4;
    near_enough.then_some(best)
}

/// Known words as a sentence's end: `a, b or c`.
pub fn choice(known: &[&str]) -> String {
    match known {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// Edit distance: insertions, deletions, substitutions, swaps of neighbours.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &[&str] = &["address", "command", "device", "kind", "name", "start_timeout", "stop_timeout"];

    #[test]
    fn slips_of_the_finger_are_understood() {
        for (given, meant) in [
            ("adress", "address"),
            ("Address", "address"),
            ("knid", "kind"),
            ("comand", "command"),
            ("start-timeout", "start_timeout"),
            ("names", "name"),
        ] {
            assert_eq!(nearest(given, KEYS), Some(meant), "{given}");
        }
    }

    #[test]
    fn a_word_unlike_any_suggests_nothing() {
        for given in ["", "priority", "x", &"address".repeat(9)] {
            assert_eq!(nearest(given, KEYS), None, "{given}");
        }
    }

    #[test]
    fn a_choice_reads_as_a_sentence() {
        assert_eq!(choice(&["a"]), "a");
        assert_eq!(choice(&["a", "b", "c"]), "a, b or c");
    }
}
