//! Proof of possession in place of a second factor, for callers without a person behind them: nobody is there to be asked
//! for a second factor, and a key that cannot be copied out of a request is what a machine can prove. A level allows it
//! word by word, or not at all; a person never profits.

use super::{IssuerName, Kind, Possession, Principal};
use crate::jose::Algorithms;

/// The proofs that a level takes from a machine in place of `acr`, `amr` and `max_age`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineProof {
    /// Client certificates: as the credential itself, or as the key that a token is bound to.
    pub certificate: CertificateProof,
    /// DPoP proofs by keys of these algorithms; empty: none.
    pub dpop: Algorithms,
}

/// The client certificates that will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateProof {
    /// None.
    Refused,
    /// Any that proved possession of the credential's key.
    Any,
    /// Those of callers for whom one of these sources vouches.
    Of(Box<[IssuerName]>),
}

impl MachineProof {
    /// Whether this caller is a machine that gave one of the proofs.
    pub fn accepts(&self, principal: &Principal, possession: Option<Possession>) -> bool {
        let Some(possession) = possession.filter(|_| principal.kind == Kind::Machine) else { return false };
        let by_certificate = possession.has_certificate() && self.certificate.takes(&principal.issuer);
        by_certificate || possession.dpop().is_some_and(|algorithm| self.dpop.contains(algorithm))
    }

    /// What both allow; `None`: nothing.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let both = Self { certificate: self.certificate.and(&other.certificate), dpop: self.dpop.and(other.dpop) };
        both.allows_any().then_some(both)
    }

    /// Whether any proof would do at all.
    pub fn allows_any(&self) -> bool {
        !self.dpop.is_empty() || self.certificate != CertificateProof::Refused
    }
}

impl CertificateProof {
    fn takes(&self, source: &IssuerName) -> bool {
        match self {
            Self::Refused => false,
            Self::Any => true,
            Self::Of(sources) => sources.contains(source),
        }
    }

    fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Refused, _) | (_, Self::Refused) => Self::Refused,
            (Self::Any, which) | (which, Self::Any) => which.clone(),
            (Self::Of(one), Self::Of(other)) => {
                let both: Box<[IssuerName]> = one.iter().filter(|name| other.contains(name)).cloned().collect();
                if both.is_empty() { Self::Refused } else { Self::Of(both) }
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        jose::Algorithm,
        policy::{Assurance, Marks},
    };

    fn caller(issuer: &str, kind: Kind) -> Principal {
        Principal {
            issuer: issuer.into(),
            issuer_url: "https://idp.example/".into(),
            subject: "robot".into(),
            client: Some("robot".into()),
            scopes: Box::default(),
            assurance: Assurance::default(),
            expires_at: None,
            leeway_secs: 0.0,
            claims: serde_json::Value::Null,
            kind,
            marks: Marks::default(),
            binding: None,
            limits: Box::default(),
            told: crate::policy::Told::default(),
        }
    }

    fn of(names: &[&str]) -> CertificateProof {
        CertificateProof::Of(names.iter().map(|name| IssuerName::from(*name)).collect())
    }

    #[test]
    fn the_truth_table_of_callers_and_proofs() {
        use Possession::{Certificate, CertificateAndDpop, Dpop};
        let es256: Algorithms = Algorithm::ES256.into();
        let by_key = MachineProof { certificate: CertificateProof::Refused, dpop: es256 };
        let by_certificate = MachineProof { certificate: of(&["devices"]), dpop: Algorithms::NONE };
        let either = MachineProof { certificate: CertificateProof::Any, dpop: es256 };
        for (issuer, possession, key, certificate, any) in [
            ("main", None, false, false, false),
            ("devices", None, false, false, false),
            ("main", Some(Dpop(Algorithm::ES256)), true, false, true),
            ("main", Some(Dpop(Algorithm::RS256)), false, false, false),
            ("main", Some(Certificate), false, false, true),
            ("devices", Some(Certificate), false, true, true),
            ("main", Some(CertificateAndDpop(Algorithm::ES256)), true, false, true),
            ("devices", Some(CertificateAndDpop(Algorithm::RS256)), false, true, true),
        ] {
            let machine = caller(issuer, Kind::Machine);
            assert_eq!(by_key.accepts(&machine, possession), key, "{issuer} {possession:?}");
            assert_eq!(by_certificate.accepts(&machine, possession), certificate, "{issuer} {possession:?}");
            assert_eq!(either.accepts(&machine, possession), any, "{issuer} {possession:?}");
            assert!(!either.accepts(&caller(issuer, Kind::Person), possession), "a person profits: {possession:?}");
        }
    }

    fn any_proof() -> impl Strategy<Value = MachineProof> {
        let names = prop::sample::subsequence(vec!["main", "devices", "partners"], 1..=3);
        let certificate = prop_oneof![
            Just(CertificateProof::Refused),
            Just(CertificateProof::Any),
            names.prop_map(|names| of(&names)),
        ];
        let algorithms = prop::sample::subsequence(vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256], 0..=3);
        (certificate, algorithms)
            .prop_map(|(certificate, list)| MachineProof { certificate, dpop: list.into_iter().collect() })
    }

    fn any_possession() -> impl Strategy<Value = Option<Possession>> {
        let algorithm = prop::sample::select(vec![Algorithm::ES256, Algorithm::EdDSA, Algorithm::RS256]);
        prop_oneof![
            Just(None),
            Just(Some(Possession::Certificate)),
            algorithm.clone().prop_map(|algorithm| Some(Possession::Dpop(algorithm))),
            algorithm.prop_map(|algorithm| Some(Possession::CertificateAndDpop(algorithm))),
        ]
    }

    proptest! {
        /// Stricter where two different proofs would do for one each: a level takes one proof that both take.
        #[test]
        fn what_two_levels_take_together_each_of_them_takes(
            one in any_proof(),
            other in any_proof(),
            possession in any_possession(),
            issuer in prop::sample::select(vec!["main", "devices", "partners", "else"]),
        ) {
            let machine = caller(issuer, Kind::Machine);
            let both = one.and(&other);
            prop_assert_eq!(&both, &other.and(&one).map(|swapped| match (swapped.certificate, &both) {
                // The order of the names is the first one's, and means nothing.
                (CertificateProof::Of(names), Some(both)) if names.len() > 1 =>
                    MachineProof { certificate: both.certificate.clone(), dpop: swapped.dpop },
                (certificate, _) => MachineProof { certificate, dpop: swapped.dpop },
            }));
            if both.is_some_and(|both| both.accepts(&machine, possession)) {
                prop_assert!(one.accepts(&machine, possession) && other.accepts(&machine, possession));
            }
        }
    }

    #[test]
    fn nothing_in_common_is_nothing_at_all() {
        let one = MachineProof { certificate: of(&["a"]), dpop: Algorithm::ES256.into() };
        let other = MachineProof { certificate: of(&["b"]), dpop: Algorithm::RS256.into() };
        assert_eq!(one.and(&other), None);
        assert_eq!(one.and(&one).unwrap(), one);
    }
}
