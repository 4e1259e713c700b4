//! A target of an upstream: its address alone, or a section that says more of it.

use super::super::{
    Target,
    decode::{At, Cx, Decode, section},
    quantity::Count,
    shape::Shape,
    yaml::{Node, Value},
};

/// More than this relation between two targets is a canary's business, and sums of weights stay far from overflowing.
pub(in crate::config) type Weight = Count<1, 1000>;

section! {
    /// A target with its share of the requests.
    "a target" TargetSection {
        /// Where it answers.
        url: At<Target>,
        /// Its share of the requests, in relation to the other targets'.
        weight: Weight = "1",
    }
}

/// A target, by its address alone or written out.
#[derive(Debug, Clone)]
pub(in crate::config) enum TargetText {
    /// Its address.
    Address(At<Target>),
    /// A section.
    Section(Box<TargetSection>),
}

impl Decode for TargetText {
    fn decode(node: &Node, cx: &mut Cx) -> Option<Self> {
        match &node.value {
            Value::Map(_) => TargetSection::decode(node, cx).map(Box::new).map(Self::Section),
            Value::Null | Value::Scalar(_) | Value::List(_) | Value::Faulty => At::decode(node, cx).map(Self::Address),
        }
    }

    fn shape() -> Shape {
        Shape::Either(vec![<Target as Decode>::shape(), TargetSection::shape()])
    }
}
