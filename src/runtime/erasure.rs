//! Evidence of deletions, in the audit log.

use std::sync::Arc;

use crate::{
    erasure::{Answering, EvidenceFault, EvidenceLog},
    telemetry::audit::{AuditFault, AuditLog, Certificate, ErasureRecord, Place, SignedCertificate, Struck},
};

/// The audit log, as the place of evidence.
#[derive(Debug)]
pub struct AuditEvidence(pub Arc<AuditLog>);

impl EvidenceLog for AuditEvidence {
    fn record(&self, record: ErasureRecord) -> Answering<'_, Result<Place, EvidenceFault>> {
        Box::pin(async move { self.0.erasure(record).await.map_err(|fault| unavailable(&fault)) })
    }

    fn certify(&self, certificate: Certificate) -> Result<SignedCertificate, EvidenceFault> {
        self.0.certify(certificate).map_err(|fault| EvidenceFault::Unavailable(fault.to_string()))
    }

    fn strike(&self, whose: Vec<Struck>) -> Answering<'_, Result<(), EvidenceFault>> {
        Box::pin(async move { self.0.strike(whose).await.map(drop).map_err(|fault| unavailable(&fault)) })
    }
}

fn unavailable(fault: &AuditFault) -> EvidenceFault {
    EvidenceFault::Unavailable(fault.to_string())
}
