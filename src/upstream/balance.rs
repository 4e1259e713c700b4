//! Which of several targets a request goes to. Pure: who may be chosen, and with which weight, is known before.
//!
//! - Turns by weight are nginx's smooth ones: with weights 5, 1 and 1 it is `a a b a c a a`, and not five times `a` at once. Each
//!   worker keeps its own.
//! - Fewer requests: of two targets, drawn by weight, the one with fewer requests for its weight (the power of two choices). Looking
//!   at all of them would send every worker to the same one.
//! - By a hash: the highest random weight (Thaler and Ravishankar, 1998), with weights by the logarithm. Each key has an order of all
//!   targets; it goes to the first that may be chosen. So a target that leaves moves its own keys alone, and spreads them over
//!   all others, which a ring does only on average, and its way back moves just these again. It costs a look at each target, which
//!   turns do as well.

use std::cell::Cell;

use crate::spread::mix;

/// A target that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its place in the set.
    pub(super) at: usize,
    /// Its weight, above nought.
    pub(super) weight: u32,
}

/// The next in turn. `credits` is what each target of the set is owed.
pub(super) fn in_turn(credits: &[Cell<i64>], candidates: &[Candidate]) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, &Cell<i64>)> = None;
    for candidate in candidates {
        let Some(credit) = credits.get(candidate.at) else { continue };
        let weight = i64::from(candidate.weight);
        total += weight;
        credit.set(credit.get().saturating_add(weight));
        if best.is_none_or(|(_, most)| credit.get() > most.get()) {
            best = Some((candidate.at, credit));
        }
    }
    let (at, credit) = best?;
    credit.set(credit.get().saturating_sub(total));
    Some(at)
}

/// Takes back that it was this one's turn.
pub(super) fn turn_back(credits: &[Cell<i64>], candidates: &[Candidate], at: usize) {
    let mut total = 0;
    for candidate in candidates {
        let Some(credit) = credits.get(candidate.at) else { continue };
        let weight = i64::from(candidate.weight);
        total += weight;
        credit.set(credit.get().saturating_sub(weight));
    }
    if let Some(credit) = credits.get(at) {
        credit.set(credit.get().saturating_add(total));
    }
}

/// The one of two with fewer requests for its weight.
pub(super) fn less_loaded(candidates: &[Candidate], load: impl Fn(usize) -> u32, random: u64) -> Option<usize> {
    let total = candidates.iter().map(|candidate| u64::from(candidate.weight)).sum();
    let one = drawn(candidates, None, total, random)?;
    let rest = total - u64::from(one.weight);
    let Some(other) = drawn(candidates, Some(one.at), rest, mix(random)) else { return Some(one.at) };
    // What it would have with this request, so that an idle one of little weight does not beat an idle one of much.
    let with_this = |of: &Candidate| u64::from(load(of.at)) + 1;
    let other_is_better = with_this(&other) * u64::from(one.weight) < with_this(&one) * u64::from(other.weight);
    Some(if other_is_better { other.at } else { one.at })
}

/// One of them by weight, but not `except`; `total` is the weight of all who are meant.
fn drawn(candidates: &[Candidate], except: Option<usize>, total: u64, random: u64) -> Option<Candidate> {
    let mut left = random.checked_rem(total)?;
    for candidate in candidates.iter().filter(|candidate| Some(candidate.at) != except) {
        match left.checked_sub(u64::from(candidate.weight)) {
            Some(rest) => left = rest,
            None => return Some(*candidate),
        }
    }
    None
}

/// The first in the order of a key. `seed` tells targets apart, by what they are and not by their place.
pub(super) fn first_for(key: u64, candidates: &[Candidate], seed: impl Fn(usize) -> u64) -> Option<usize> {
    let score = |candidate: &Candidate| {
        // 53 bits are what a double holds; the half keeps it off nought, and below one.
        let drawn = ((mix(key ^ seed(candidate.at)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        f64::from(candidate.weight) / -drawn.ln()
    };
    candidates.iter().map(|one| (score(one), one.at)).max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should panic")]

    use proptest::prelude::*;

    use super::*;

    fn of(weights: &[u32]) -> Vec<Candidate> {
        weights.iter().enumerate().map(|(at, weight)| Candidate { at, weight: *weight }).collect()
    }

    fn credits(count: usize) -> Vec<Cell<i64>> {
        vec![Cell::new(0); count]
    }

    #[test]
    fn turns_are_smooth() {
        let (credits, candidates) = (credits(3), of(&[5, 1, 1]));
        let turns: String = (0..7).map(|_| ["a", "b", "c"][in_turn(&credits, &candidates).unwrap()]).collect();
        assert_eq!(turns, "aabacaa");
    }

    #[test]
    fn a_turn_that_is_taken_back_comes_again() {
        let (credits, candidates) = (credits(3), of(&[5, 1, 1]));
        let turns: String = (0..14)
            .map(|n| {
                let at = in_turn(&credits, &candidates).unwrap();
                if n % 2 == 0 {
                    turn_back(&credits, &candidates, at);
                }
                ["a", "b", "c"][at]
            })
            .collect();
        assert_eq!(turns, "aaaabbaaccaaaa");
    }

    #[test]
    fn nobody_is_chosen_of_none() {
        assert_eq!(in_turn(&credits(3), &[]), None);
        assert_eq!(less_loaded(&[], |_| 0, 7), None);
        assert_eq!(first_for(7, &[], |_| 0), None);
    }

    proptest! {
        #[test]
        fn in_a_round_each_target_has_exactly_its_weight(weights in prop::collection::vec(1_u32..50, 1..12)) {
            let (credits, candidates) = (credits(weights.len()), of(&weights));
            let mut counts = vec![0; weights.len()];
            for _ in 0..weights.iter().sum::<u32>() {
                counts[in_turn(&credits, &candidates).unwrap()] += 1;
            }
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn the_busier_of_two_is_never_chosen(loads in prop::collection::vec(0_u32..100, 2..3), random: u64) {
            let chosen = less_loaded(&of(&[1, 1]), |at| loads[at], random).unwrap();
            prop_assert!(loads[chosen] == *loads.iter().min().unwrap());
        }

        #[test]
        fn a_target_that_leaves_moves_its_own_keys_alone(
            weights in prop::collection::vec(1_u32..20, 2..10),
            keys in prop::collection::vec(any::<u64>(), 50),
            gone in any::<prop::sample::Index>(),
        ) {
            let seed = |at: usize| mix(at as u64 + 1);
            let all = of(&weights);
            let gone = gone.index(weights.len());
            let rest: Vec<Candidate> = all.iter().copied().filter(|candidate| candidate.at != gone).collect();
            for key in keys {
                let (before, after) = (first_for(key, &all, seed).unwrap(), first_for(key, &rest, seed).unwrap());
                prop_assert!(before == gone || before == after);
            }
        }

        #[test]
        fn a_target_that_weighs_more_only_gains_keys(
            keys in prop::collection::vec(any::<u64>(), 50), weight in 1_u32..100, more in 1_u32..100,
        ) {
            let seed = |at: usize| mix(at as u64 + 1);
            for key in keys {
                let before = first_for(key, &of(&[10, weight, 10]), seed).unwrap();
                let after = first_for(key, &of(&[10, weight + more, 10]), seed).unwrap();
                prop_assert!(before == after || after == 1);
            }
        }
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let weights = [1, 2, 3, 4];
        let mut counts = [0_u32; 4];
        for key in 0..40_000 {
            counts[first_for(mix(key), &of(&weights), |at| mix(at as u64 + 1)).unwrap()] += 1;
        }
        for (count, weight) in counts.iter().zip(weights) {
            assert!(count.abs_diff(weight * 4000) < 300, "{counts:?}"); // five standard deviations
        }
    }

    #[test]
    fn the_keys_of_a_target_that_leaves_are_spread_over_all_others() {
        let (all, seed) = (of(&[1; 5]), |at: usize| mix(at as u64 + 1));
        let mut counts = [0_u32; 5];
        for key in (0..40_000).map(mix).filter(|key| first_for(*key, &all, seed) == Some(0)) {
            counts[first_for(key, &all[1..], seed).unwrap()] += 1;
        }
        assert!(counts[1..].iter().all(|count| count.abs_diff(2000) < 250), "{counts:?}");
    }

    /// Requests come one after the other; each target ends one of its own with a chance of its speed.
    fn most_loaded(choose: impl Fn(&[u32], u64) -> usize) -> u32 {
        let speeds = [100_u64, 100, 100, 25]; // one is four times as slow
        let (mut loads, mut random, mut most) = ([0_u32; 4], 7, 0);
        for _ in 0..20_000 {
            random = mix(random);
            loads[choose(&loads, random)] += 1;
            most = most.max(*loads.iter().max().unwrap());
            for (at, load) in loads.iter_mut().enumerate() {
                if mix(random ^ at as u64) % 300 < speeds[at] {
                    *load = load.saturating_sub(1);
                }
            }
        }
        most
    }

    #[test]
    fn a_slow_target_does_not_fill_up() {
        let (credits, candidates) = (credits(4), of(&[1; 4]));
        let in_turn = most_loaded(|_, _| in_turn(&credits, &candidates).unwrap());
        let fewer = most_loaded(|loads, random| less_loaded(&candidates, |at| loads[at], random).unwrap());
        assert!(in_turn > 1000 && fewer < 100, "{in_turn} {fewer}");
    }

    #[test]
    fn two_choices_follow_weights() {
        let mut counts = [0_u32; 2];
        let mut random = 1;
        for _ in 0..10_000 {
            random = mix(random);
            counts[less_loaded(&of(&[3, 1]), |_| 0, random).unwrap()] += 1;
        }
        assert!(counts[0] > counts[1], "{counts:?}");
        // With three times as many under way, both are as good as each other; with more, the lighter one is better.
        assert_eq!(less_loaded(&of(&[3, 1]), |at| [4, 0][at], 0), Some(1));
        assert_eq!(less_loaded(&of(&[3, 1]), |at| [1, 0][at], 0), Some(0));
    }
}
