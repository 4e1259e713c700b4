//! The proof that a deletion plan needs on each route that its operations reach: the guard's, the route's and the plan's together.

use std::sync::Arc;

use super::{Context, guard};
use crate::{
    config::{DeletionPlan, PlannedRequirement, Route, RouteDeletion},
    route::overlap,
};

/// One requirement for each plan and guarded route. What nobody could prove is reported where an operation of the plan reaches
/// the route in its own form.
pub(super) fn requirements(
    plans: &[Arc<DeletionPlan>],
    routes: &[Route],
    to: &mut Context<'_>,
) -> Vec<PlannedRequirement> {
    let mut all = Vec::new();
    for plan in plans {
        for (number, route) in routes.iter().enumerate() {
            let RouteDeletion::Guarded { requirement, .. } = &route.deletion else { continue };
            let requirement =
                plan.assurance.as_ref().map_or_else(|| requirement.clone(), |own| guard::both(requirement, own));
            if let (Some(list), true) = (guard::empty_list(&requirement), reaches(plan, route)) {
                let message = format!(
                    "no `{list}` value satisfies the plan's assurance, the deletion guard's and that of the route `{}`",
                    route.name
                );
                to.error_with_help(&plan.span, message, "give the plan an `assurance` that shares a value with them");
            }
            all.push(PlannedRequirement { plan: plan.name.clone(), route: number, requirement });
        }
    }
    all
}

/// Whether a route can be asked for an operation of the plan.
fn reaches(plan: &DeletionPlan, route: &Route) -> bool {
    plan.operations.iter().any(|operation| {
        route.methods.as_ref().is_none_or(|methods| methods.contains(&operation.method))
            && overlap::overlaps(&operation.path, &route.path)
    })
}
