//! Problems as people read them: what, where, the line itself, and what to do.

use std::fmt::Write as _;

use super::{Problem, Problems, Severity};

/// Whether a terminal's colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Color {
    /// Plain text.
    Never,
    /// With ANSI escapes.
    Always,
}

/// The most characters of a line that are shown.
const WIDTH: usize = 140;

impl Problems {
    /// Prints every problem with its line, and a count at the end.
    pub fn render(&self, color: Color) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut out = String::new();
        for problem in &self.list {
            self.render_one(problem, &lines, color, &mut out);
            out.push('\n');
        }
        out.push_str(&self.summary());
        out
    }

    fn render_one(&self, problem: &Problem, lines: &[&str], color: Color, out: &mut String) {
        let (kind, paint) = match problem.severity {
            Severity::Error => ("error", "\x1b[1;31m"),
            Severity::Warning => ("warning", "\x1b[1;33m"),
        };
        let (on, dim, bold, off) = match color {
            Color::Never => ("", "", "", ""),
            Color::Always => (paint, "\x1b[1;34m", "\x1b[1m", "\x1b[0m"),
        };
        let span = &problem.span;
        let _ = writeln!(out, "{on}{kind}{off}{bold}: {}{off}", problem.message);
        let margin = span.line.to_string().len().max(1);
        let key = if span.key.is_empty() { String::new() } else { format!(" ({})", span.key) };
        let file = self.file.display();
        if span.line == 0 {
            let _ = writeln!(out, "{:margin$}{dim}-->{off} {file}{key}", "");
        } else {
            let _ = writeln!(out, "{:margin$}{dim}-->{off} {file}:{}:{}{key}", "", span.line, span.column);
        }
        let line = usize::try_from(span.line).ok().and_then(|line| line.checked_sub(1)).and_then(|at| lines.get(at));
        if let Some(line) = line {
            let (shown, before, marked) = snippet(line.trim_end(), span.column);
            let _ = writeln!(out, "{:margin$} {dim}|{off}", "");
            let _ = writeln!(out, "{dim}{} |{off} {shown}", span.line);
            let _ = writeln!(out, "{:margin$} {dim}|{off} {:before$}{on}{}{off}", "", "", "^".repeat(marked));
        }
        if let Some(help) = &problem.help {
            let _ = writeln!(out, "{:margin$} {dim}={off} help: {help}", "");
        }
    }

    fn summary(&self) -> String {
        let errors = self.list.iter().filter(|problem| problem.severity == Severity::Error).count();
        let warnings = self.list.len() - errors;
        let count = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let counts = match (errors, warnings) {
            (0, _) => count(warnings, "warning"),
            (_, 0) => count(errors, "error"),
            (_, _) => format!("{} and {}", count(errors, "error"), count(warnings, "warning")),
        };
        format!("{}: {counts}\n", self.file.display())
    }
}

/// A line as it is shown, how much stands before the mark, and how long the mark is.
fn snippet(line: &str, column: u32) -> (String, usize, usize) {
    // Nothing of a file may move the terminal's cursor.
    let clean: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let column = usize::try_from(column).unwrap_or(usize::MAX).saturating_sub(1).min(clean.len());
    let start = if clean.len() > WIDTH { column.saturating_sub(WIDTH / 2) } else { 0 };
    let mut shown: String = clean.iter().skip(start).take(WIDTH).collect();
    if clean.len() > start + WIDTH {
        shown.push('…');
    }
    let rest = clean.get(column..).unwrap_or_default();
    (shown, column - start, token_length(rest).clamp(1, WIDTH / 2))
}

/// How long the word is that begins here: a quoted text, or up to what ends a plain one.
fn token_length(rest: &[char]) -> usize {
    match rest.first() {
        Some(quote @ ('"' | '\'')) => rest.iter().skip(1).position(|c| c == quote).map_or(rest.len(), |at| at + 2),
        Some('[' | '{') => 1,
        Some(_) => rest
            .iter()
            .enumerate()
            .position(|(at, c)| {
                let next = rest.get(at + 1);
                matches!(c, ',' | ']' | '}' | ' ' | '#') || (*c == ':' && next.is_none_or(|next| *next == ' '))
            })
            .unwrap_or(rest.len()),
        None => 1,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::Span;

    fn problems(text: &str, line: u32, column: u32) -> Problems {
        let span = Span { line, column, key: "a.b".into() };
        let list = vec![Problem::error(&span, "something is wrong").with_help("mend it")];
        Problems { file: "gateway.yaml".into(), text: Arc::from(text), list }
    }

    #[test]
    fn a_problem_shows_its_line_and_points_at_the_word() {
        let shown = problems("a:\n  b: wrong, c\n", 2, 6).render(Color::Never);
        let expected = "error: something is wrong\n --> gateway.yaml:2:6 (a.b)\n  |\n2 |   b: wrong, c\n  |      ^^^^^\n  = help: mend it\n\ngateway.yaml: 1 error\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn places_outside_the_text_and_long_lines_do_no_harm() {
        for (line, column) in [(0, 0), (1, 0), (1, 9_999), (u32::MAX, u32::MAX), (1, 5_000)] {
            let text = "é".repeat(6_000);
            assert!(problems(&text, line, column).render(Color::Always).contains("something is wrong"));
            assert!(problems("", line, column).render(Color::Never).len() < 400);
        }
    }

    #[test]
    fn control_characters_of_the_file_never_reach_the_terminal() {
        assert!(!problems("\u{1b}[2J\u{7}", 1, 1).render(Color::Never).contains('\u{1b}'));
    }
}
