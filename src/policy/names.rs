//! What a condition speaks of: its free variables, and how deep its loops stand inside each other. The interpreter's own
//! list of variables also has those that `all`, `exists`, `map` and `filter` bind, which are nobody's to provide.

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr},
};

/// The names in an expression.
#[derive(Debug, Default)]
pub(super) struct Names<'e> {
    /// Variables that no loop binds.
    pub(super) free: BTreeSet<&'e str>,
    /// The depth of the deepest loop; 0 without any.
    pub(super) loops: usize,
}

impl<'e> Names<'e> {
    /// Reads an expression. The parser has bounded its depth.
    pub(super) fn of(expression: &'e IdedExpr) -> Self {
        let mut names = Self::default();
        names.read(expression, &mut Vec::new(), 0);
        names
    }

    fn read(&mut self, expression: &'e IdedExpr, bound: &mut Vec<&'e str>, depth: usize) {
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => {
                // Names that start with `@` are the interpreter's own accumulators.
                if !name.starts_with('@') && !bound.contains(&name.as_str()) {
                    self.free.insert(name);
                }
            }
            Expr::Select(select) => self.read(&select.operand, bound, depth),
            Expr::Call(call) => {
                let target = call.target.as_deref();
                target.into_iter().chain(&call.args).for_each(|part| self.read(part, bound, depth));
            }
            Expr::List(list) => list.elements.iter().for_each(|element| self.read(element, bound, depth)),
            Expr::Map(map) => map.entries.iter().for_each(|entry| self.entry(&entry.expr, bound, depth)),
            Expr::Struct(literal) => literal.entries.iter().for_each(|entry| self.entry(&entry.expr, bound, depth)),
            Expr::Comprehension(each) => {
                self.loops = self.loops.max(depth + 1);
                // What is looped over, and where the result starts, stand outside the loop.
                self.read(&each.iter_range, bound, depth);
                self.read(&each.accu_init, bound, depth);
                let outside = bound.len();
                bound.extend([each.iter_var.as_str(), each.accu_var.as_str()]);
                bound.extend(each.iter_var2.as_deref());
                for part in [&each.loop_cond, &each.loop_step, &each.result] {
                    self.read(part, bound, depth + 1);
                }
                bound.truncate(outside);
            }
        }
    }

    fn entry(&mut self, entry: &'e EntryExpr, bound: &mut Vec<&'e str>, depth: usize) {
        match entry {
            EntryExpr::StructField(field) => self.read(&field.value, bound, depth),
            EntryExpr::MapEntry(entry) => {
                self.read(&entry.key, bound, depth);
                self.read(&entry.value, bound, depth);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may")]

    use cel::Program;

    use super::*;

    #[test]
    fn what_a_loop_binds_is_not_free_and_what_it_reads_is() {
        for (source, free, loops) in [
            ("claims.a == 1", "claims", 0),
            ("claims.l.all(x, x == request.method)", "claims request", 1),
            ("claims.l.exists(x, x == y)", "claims y", 1),
            ("claims.l.filter(x, x.m.all(y, y == x.n)).size() > 0", "claims", 2),
            ("x && claims.l.all(x, x)", "claims x", 1),
            ("claims.l.all(x, x.all(x, x)) && x", "claims x", 2),
            ("claims.l.map(x, [x, {'k': z}]).size() == 1", "claims z", 1),
            ("claims.l.all(a, a.all(b, b.all(c, c)))", "claims", 3),
            ("has(claims.a) ? claims.b in [1, w] : true", "claims w", 0),
        ] {
            let program = Program::compile(source).unwrap();
            let names = Names::of(program.expression());
            let found: Vec<&str> = names.free.iter().copied().collect();
            assert_eq!((found.join(" ").as_str(), names.loops), (free, loops), "{source}");
        }
    }
}
