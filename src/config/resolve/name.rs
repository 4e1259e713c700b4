//! What a route is called in metrics, logs and `explain`: its own name, else as much of it as makes it unique.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::Context;
use crate::config::document::Route;

/// A name for each route, in order, all different.
pub(super) fn names(routes: &[Route], to: &mut Context<'_>) -> Vec<Arc<str>> {
    let mut taken: HashMap<&str, u32> = HashMap::new();
    for name in routes.iter().filter_map(|route| route.name.as_ref()) {
        match taken.get(name.value.0.as_str()) {
            Some(line) => to.error(&name.span, format!("the route on line {line} has this name already")),
            None => {
                taken.insert(&name.value.0, name.span.line);
            }
        }
    }
    let mut counts = [HashMap::new(), HashMap::new(), HashMap::new()];
    let descriptions: Vec<[String; 3]> = routes.iter().map(descriptions).collect();
    for (route, names) in routes.iter().zip(&descriptions) {
        if route.name.is_none() {
            for (count, name) in counts.iter_mut().zip(names) {
                *count.entry(name.as_str()).or_insert(0_u32) += 1;
            }
        }
    }
    let mut used: HashSet<Arc<str>> = taken.keys().map(|name| Arc::from(*name)).collect();
    let mut last = HashMap::new();
    let mut chosen = Vec::with_capacity(routes.len());
    for (route, names) in routes.iter().zip(&descriptions) {
        let name: Arc<str> = match &route.name {
            Some(name) => name.value.0.as_str().into(),
            None => {
                let unique = names
                    .iter()
                    .zip(&counts)
                    .find(|(name, count)| count.get(name.as_str()) == Some(&1) && !used.contains(name.as_str()));
                match unique {
                    Some((name, _)) => name.as_str().into(),
                    // Only routes that tie come here, or one whose description is another's name.
                    None => numbered(names, &used, &mut last),
                }
            }
        };
        used.insert(name.clone());
        chosen.push(name);
    }
    chosen
}

/// Its path; with methods; with methods and hosts.
fn descriptions(route: &Route) -> [String; 3] {
    let path = route.path.value.as_str().to_owned();
    let methods = route.methods.as_ref().map_or(String::new(), |methods| {
        let names: Vec<&str> = methods.value.0.iter().map(|method| method.value.as_str()).collect();
        format!("{} ", names.join(","))
    });
    let hosts: Vec<&str> = route.hosts.iter().map(|host| host.shown.as_ref()).collect();
    let with_methods = format!("{methods}{path}");
    let with_hosts = format!("{methods}{}{path}", hosts.join(","));
    [path, with_methods, with_hosts]
}

/// A name with the next free number; `last` remembers the numbers, so that thousands of routes alike cost no more each.
fn numbered<'n>(names: &'n [String; 3], used: &HashSet<Arc<str>>, last: &mut HashMap<&'n str, u32>) -> Arc<str> {
    let [.., full] = names;
    let number = last.entry(full).or_insert(1);
    loop {
        *number = number.saturating_add(1);
        let name = format!("{full} #{number}");
        if !used.contains(name.as_str()) || *number == u32::MAX {
            return name.into();
        }
    }
}
