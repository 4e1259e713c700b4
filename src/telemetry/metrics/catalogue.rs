//! Every metric: its name, its labels and what it means. The registry and docs/metrics.md are both made from this list.

use std::fmt::Write as _;

/// What kind of metric a family is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts durations by buckets.
    Histogram,
}

/// One metric with its labels.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// Declares the families once, each under a name of its own and all in one list.
macro_rules! families {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(super) const $id: Family =
            Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// All of them, in the order of the reference.
        const ALL: &[Family] = &[$($id),*];
    };
}

families! {
    REQUESTS = Counter "stepgate_requests_total" ["route", "method", "status"]
        "Requests answered, by route, method (the standard ones, else OTHER) and class of status.";
    REQUEST_DURATION = Histogram "stepgate_request_duration_seconds" ["route"]
        "From the request's head to the end of the answer.";
    DECISIONS = Counter "stepgate_decisions_total" ["reason"]
        "Requests by the reason they ended with.";
    UPSTREAM_DURATION = Histogram "stepgate_upstream_duration_seconds" ["upstream"]
        "From sending a request upstream to the head of the answer.";
    UPSTREAM_ERRORS = Counter "stepgate_upstream_errors_total" ["upstream", "kind"]
        "Requests that an upstream did not answer properly, by what went wrong.";
    UPSTREAM_OPENED = Counter "stepgate_upstream_connections_opened_total" ["upstream"]
        "Connections opened to an upstream.";
    UPSTREAM_REUSED = Counter "stepgate_upstream_connections_reused_total" ["upstream"]
        "Requests sent on a connection that was open already.";
    UPSTREAM_REPEATED = Counter "stepgate_upstream_retries_total" ["upstream", "reason"]
        "Requests sent again: stale (its connection was found closed), connect (to another target), reset or status; or denied, as there was no budget for it.";
    UPSTREAM_EJECTIONS = Counter "stepgate_upstream_ejections_total" ["upstream"]
        "Times that a target was left out for failures in a row.";
    UPSTREAM_TARGET_HEALTHY = Gauge "stepgate_upstream_target_healthy" ["upstream", "target"]
        "1 for each target that is used; 0 while it is left out for failures or health checks.";
    UPSTREAM_UNDER_WAY = Gauge "stepgate_upstream_requests" ["upstream"]
        "Requests that have a place under an upstream's bound (`concurrency`).";
    UPSTREAM_WAITING = Gauge "stepgate_upstream_requests_waiting" ["upstream"]
        "Requests that wait for their place at such an upstream.";
    UPSTREAM_NAMES_FAILING = Gauge "stepgate_upstream_names_failing" ["upstream"]
        "Names of an upstream's targets that no name server answers at the moment; the last answer serves for five minutes.";
    TOKEN_VERIFICATIONS = Counter "stepgate_token_verifications_total" ["issuer", "result"]
        "Tokens judged, by issuer and result: allowed, or the reason against it. The issuer is empty if none matches.";
    TOKEN_CACHE = Counter "stepgate_token_cache_total" ["result"]
        "Look-ups of tokens verified before: hit or miss.";
    INTROSPECTIONS = Counter "stepgate_introspections_total" ["issuer", "result"]
        "Tokens that were introspected: active, refused, remembered (refused a moment ago), failed, or busy (no room to ask).";
    INTROSPECTION_DURATION = Histogram "stepgate_introspection_duration_seconds" ["issuer"]
        "How long an issuer took to say whether a token is active, failures included.";
    PASSWORDS = Counter "stepgate_passwords_total" ["source", "result"]
        "Passwords that had to be hashed: right, wrong, or busy where too many waited and it was not hashed.";
    LOCKED_USERS = Gauge "stepgate_locked_users" ["source"]
        "User names that are locked after wrong passwords, each counted once for each address.";
    JWKS_AGE = Gauge "stepgate_jwks_age_seconds" ["issuer"]
        "Seconds since an issuer's keys were last fetched.";
    JWKS_REFRESHES = Counter "stepgate_jwks_refreshes_total" ["issuer", "result"]
        "Fetches of an issuer's keys: ok or failed.";
    API_KEYS = Gauge "stepgate_api_keys" ["source"]
        "API keys that a source knows, revoked and expired ones included.";
    API_KEY_READS = Counter "stepgate_api_key_file_reads_total" ["source", "result"]
        "Times that a source's file of API keys was read: ok, or failed and the keys before stay.";
    CRL_NEXT_UPDATE = Gauge "stepgate_crl_next_update_timestamp_seconds" ["source"]
        "When the first of a source's lists of revoked certificates ends: what that list is asked about is refused then.";
    AUTHORITY_RELOADS = Counter "stepgate_client_ca_reloads_total" ["source", "result"]
        "Changes of the authorities and lists of a source of client certificates: ok or failed.";
    QUOTA_REJECTIONS = Counter "stepgate_quota_rejections_total" ["limit"]
        "Requests that a quota refused.";
    QUOTA_LIVE_KEYS = Gauge "stepgate_quota_live_keys" ["limit"]
        "Keys that a quota holds a state for.";
    DPOP_PROOFS = Gauge "stepgate_dpop_proofs" []
        "DPoP proofs that are remembered so that none is used twice; at 2097152 further ones are refused.";
    TLS_HANDSHAKES = Counter "stepgate_tls_handshakes_total" ["listener", "result"]
        "TLS handshakes with clients: ok, failed or timeout.";
    TLS_NOT_AFTER = Gauge "stepgate_tls_certificate_not_after_timestamp_seconds" ["listener", "certificate"]
        "When a certificate expires. The certificate is its file's path in the configuration.";
    ACME_ORDERS = Counter "stepgate_acme_orders_total" ["certificate", "result"]
        "Certificates that were ordered: ok or failed. The certificate is the first name of its entry in the configuration.";
    ACME_FAILING = Gauge "stepgate_acme_failing" ["certificate"]
        "1 if the last attempt to order a certificate failed; the one before stays in use for as long as it is good.";
    CONNECTIONS = Gauge "stepgate_connections" ["listener"]
        "Connections with clients that are open. What comes over QUIC is counted by the listener's name and `/udp`.";
    CONNECTIONS_ACCEPTED = Counter "stepgate_connections_total" ["listener"]
        "Connections accepted from clients.";
    CONNECTIONS_REFUSED = Counter "stepgate_connections_refused_total" ["listener", "reason"]
        "Connections closed unserved, by the bound that they would have broken; `proxy_header`: a relay did not say for whom it connects.";
    STREAMS_OPEN = Gauge "stepgate_streams" []
        "Upgraded streams (WebSocket) that are open.";
    STREAMS_ENDED = Counter "stepgate_streams_ended_total" ["end"]
        "Upgraded streams that ended, by how: client_closed, upstream_closed, client_gone, upstream_gone, client_stalled, idle, expired, revoked or drained.";
    CONFIG_RELOADS = Counter "stepgate_config_reloads_total" ["result"]
        "Reloads of the configuration: ok or refused.";
    CONFIG_LAST_OK = Gauge "stepgate_config_last_reload_successful" []
        "1 if the last reload took effect, or there was none; 0 if it was refused and the one before is in force.";
    CONFIG_LAST_SUCCESS = Gauge "stepgate_config_last_reload_success_timestamp_seconds" []
        "When the configuration in force was loaded.";
    CONFIG_GENERATION = Gauge "stepgate_config_generation" []
        "The number of the configuration in force: 1 after the start, and one more with each reload.";
    REVOCATIONS = Gauge "stepgate_revocations" ["kind"]
        "Entries in the list of revocations, by what they name: jti, subject, session, key or all.";
    SECURITY_EVENTS = Counter "stepgate_security_events_total" ["issuer", "event", "outcome"]
        "Events that providers reported, by what happened and what became of it. `unmatched`, `refused` and `unavailable` deserve a look.";
    CEREMONIES = Counter "stepgate_authority_ceremonies_total" ["factor", "occasion", "outcome"]
        "Ceremonies of the authority: by factor (none: not recognised), what it was shown for, and what became of it. One that was begun counts again when it ends.";
    AUTHORITY_CHANGES = Counter "stepgate_authority_changes_total" ["change"]
        "What the authority changed: factors, invitations, resets, locks, elevations and grants. `hard_locked` and `counter_went_back` deserve a look.";
    CODES_SENT = Counter "stepgate_authority_codes_total" ["factor", "result"]
        "Codes and approvals that were asked for: sent, or limited where somebody asked for too many.";
    AUTHORITY_SUBJECTS = Gauge "stepgate_authority_subjects" []
        "People who have a factor.";
    AUTHORITY_ELEVATIONS = Gauge "stepgate_authority_elevations" []
        "Elevations that live.";
    STORE_FAULTS = Counter "stepgate_store_faults_total" []
        "Times that the store of second factors and deletions could not be asked or written: the request was refused.";
    STORE_COMMITS = Histogram "stepgate_store_commit_duration_seconds" []
        "How long a commit of the store took to be durable.";
    MESSAGES = Counter "stepgate_messages_total" ["channel", "result"]
        "Attempts to deliver a message, by channel (mail, or a webhook's name): delivered, retried, or lost as expired or refused.";
    MESSAGES_WAITING = Gauge "stepgate_messages_waiting" ["channel"]
        "Messages in the outbox that are not delivered yet.";
    ERASURES = Gauge "stepgate_erasures" ["plan", "state"]
        "Account deletions that are open, by plan and state: held, carrying_out, verifying, scrubbing; erased and cancelled only until the audit log has all of their events.";
    ERASURE_HOLDS = Gauge "stepgate_erasure_holds" ["hold"]
        "Account deletions that wait, by what holds them: approval, legal, breaker, dispute. One may be held by several.";
    ERASURE_EVENTS = Counter "stepgate_erasure_events_total" ["plan", "event"]
        "What happened to account deletions. `disputed`, `step_parked` and `probe_parked` deserve a look.";
    ERASURE_STEPS = Counter "stepgate_erasure_steps_total" ["upstream", "outcome"]
        "Requests of steps and probes: done (a step), seen (a probe that said there or gone), retried (to be sent again) or refused (a person must look).";
    ERASURE_LOOKS = Counter "stepgate_erasure_probes_total" ["plan", "seen"]
        "Looks at whether data is gone, after the last step: gone, or there.";
    ERASURES_PARKED = Gauge "stepgate_erasures_parked" []
        "Account deletions of which a step or a probe waits for a person.";
    ERASURES_OVERDUE = Gauge "stepgate_erasures_overdue" []
        "Account deletions that should have gone on more than ten minutes ago, and did not.";
    ERASURE_UNPLACED = Gauge "stepgate_erasure_evidence_unplaced" []
        "Events of account deletions that have no place in the audit log yet.";
    ERASURE_FROZEN = Gauge "stepgate_erasure_frozen_subjects" []
        "People whose deletions are frozen, as they said that it was not them.";
    ERASURE_BREAKER = Gauge "stepgate_erasure_breaker_tripped" []
        "1 while the mass-deletion breaker is tripped: every further deletion is held for a person.";
    ERASURE_UNTOLD = Counter "stepgate_erasure_notices_lost_total" []
        "Notices of account deletions that nobody could be sent: no address, or a channel that is no longer configured.";
    AUDIT_RECORDS = Counter "stepgate_audit_records_total" ["kind"]
        "Audit records written, by kind.";
    AUDIT_FAILURES = Counter "stepgate_audit_failures_total" []
        "Audit records that could not be written: refused operations, and records lost.";
    AUDIT_UNAUTHENTICATED = Counter "stepgate_audit_unauthenticated_attempts_total" ["reason"]
        "Attempts at guarded operations without a valid principal, by reason.";
    AUDIT_WRITABLE = Gauge "stepgate_audit_writable" []
        "1 while the audit file can be written; 0 means that guarded operations are refused.";
    ACCESS_LOG_DROPPED = Counter "stepgate_access_log_dropped_total" []
        "Access records dropped because the log could not be written fast enough.";
    REQUESTS_IN_FLIGHT = Gauge "stepgate_requests_in_flight" []
        "Requests that have been let in by `server.overload` and are not over.";
    OVERLOAD_LEVEL = Gauge "stepgate_overload_level" ["worker"]
        "How much a worker refuses because what is ready waits too long for its turn: 0 nothing, to 8 `low`, to 16 `normal`, to 24 `critical`.";
    OVERLOAD_REFUSED = Counter "stepgate_overload_refused_total" ["why", "priority"]
        "Requests refused so that the rest is answered, by what was full: the queue of a worker, all requests, or the share of a client, a route or an upstream.";
    MIRRORED = Counter "stepgate_mirrored_requests_total" ["upstream", "outcome"]
        "Requests that were to be copied to a mirror, by what became of the copy: `answered`, `failed`, or not sent as it was `too_long`, `incomplete` or the worker `busy` with others.";
    DANGER = Gauge "stepgate_danger" ["key"]
        "1 for each danger_ key that the configuration sets.";
    BUILD_INFO = Gauge "stepgate_build_info" ["version"]
        "1, labelled with the version.";
    PROCESS_CPU = Counter "process_cpu_seconds_total" []
        "Processor time spent, user and system.";
    PROCESS_RSS = Gauge "process_resident_memory_bytes" []
        "Memory in use.";
    PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
        "Address space in use.";
    PROCESS_OPEN_FDS = Gauge "process_open_fds" []
        "Open file descriptors.";
    PROCESS_MAX_FDS = Gauge "process_max_fds" []
        "How many file descriptors may be open.";
    PROCESS_START = Gauge "process_start_time_seconds" []
        "When the process started, in seconds since the Unix epoch.";
}

/// The reference in docs/metrics.md.
pub(super) fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         `GET /metrics` on the admin listener, in Prometheus' text format. This page is made from the registry and a test\n\
         keeps it so. Labels hold names from the configuration and closed lists only, never what a client sent. Requests\n\
         that no route matched have the route `(none)`. What a reload takes out of the configuration leaves the metrics.\n\
         The `process_` metrics are there on Linux.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for family in ALL {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| `{}` | {kind} | {} | {} |", family.name, labels.join(", "), family.help);
    }
    text
}
