//! One table from every way a connection can end to what the outside sees of it. The match is
//! total: a new variant anywhere does not compile until it has its row here. Pure.

use crate::{
    connection::End,
    inbound, live,
    outbound::{self, connect::DialError},
};
use hbone::{
    accept::HandshakeError as Http2Error,
    open::BeginError,
    pool::OpenError,
    relay::{RelayEnd, Side},
};
use pki::{tls::HandshakeError as TlsError, verify::PeerRefused};

/// What the outside sees of an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// `response_flags` of the metrics.
    pub(super) flag: Flag,
    /// Who could have done better.
    pub(super) fault: Fault,
    /// How the log tells it.
    pub(super) told: Told,
    /// `error=` of the log; none when all went well.
    pub(super) error: Option<String>,
}

/// `response_flags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flag {
    /// `-`
    None,
    /// Policy said no.
    Deny,
    /// TCP, or what is beyond the tunnel, could not be reached.
    Connect,
    /// TLS failed.
    Tls,
    /// HTTP/2 failed.
    Http2,
    /// Nothing came back in time, as when a NetworkPolicy swallows it.
    NetworkPolicy,
    /// Somebody is not who was expected, or has no identity.
    Identity,
    /// The peer's certificate was revoked, before the connection or while it was open.
    Revoked,
}

impl Flag {
    /// Every flag, in the order of [`Flag::index`].
    pub(super) const ALL: [Self; 8] = [
        Self::None,
        Self::Deny,
        Self::Connect,
        Self::Tls,
        Self::Http2,
        Self::NetworkPolicy,
        Self::Identity,
        Self::Revoked,
    ];

    /// The value of the label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::Tls => "TLS_FAILURE",
            Self::Http2 => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::Identity => "IDENTITY_ERROR",
            Self::Revoked => "CERT_REVOKED",
        }
    }

    /// Its place in [`Flag::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Who could have done better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nobody.
    Nobody,
    /// Who connected.
    Source,
    /// Who was connected to, or the way there.
    Destination,
    /// Who wrote the policy, or the mesh's configuration.
    Configuration,
    /// This process, its certificates or its control plane.
    Mesh,
}

impl Fault {
    /// The value of the label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Nobody => "nobody",
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Configuration => "configuration",
            Self::Mesh => "mesh",
        }
    }
}

/// How the log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// `connection complete`: both ends were known.
    Complete,
    /// `connection failed`: turned away before anybody knew what it was.
    Early,
}

const fn row(flag: Flag, fault: Fault, told: Told) -> (Flag, Fault, Told) {
    (flag, fault, told)
}

impl Row {
    /// The row of an end.
    pub(super) fn of(end: &End) -> Self {
        let ((flag, fault, told), error) = match end {
            End::Relayed(relayed) => match relayed {
                RelayEnd::Closed { .. } => (row(Flag::None, Fault::Nobody, Told::Complete), None),
                RelayEnd::Broken { by, error } => {
                    let (fault, who) = match by {
                        Side::Downstream => (Fault::Source, "the source"),
                        Side::Upstream => (Fault::Destination, "the destination"),
                    };
                    let flag = if pki::tls::is_revocation(error) { Flag::Revoked } else { Flag::None };
                    (row(flag, fault, Told::Complete), Some(format!("connection broken by {who}: {error}")))
                }
                RelayEnd::Cancelled => {
                    (row(Flag::None, Fault::Mesh, Told::Complete), Some("connection closed by the proxy".into()))
                }
            },
            End::BrokenOff(cause) => (broken_off(*cause), Some(cause.to_string())),
            End::Rejected(reject) => (rejected(reject), Some(reject.to_string())),
            End::Unreachable(failure) => (unreachable(failure), Some(failure.to_string())),
            End::Refused(reject) => (refused(reject), Some(reject.to_string())),
            End::NotServed(failure) => (not_served(failure), Some(failure.to_string())),
        };
        Self { flag, fault, told, error }
    }

    /// The row of a connection that nobody told the end of: its task was ended, or panicked.
    pub(super) fn lost() -> Self {
        let error = Some("connection dropped by the proxy".into());
        Self { flag: Flag::None, fault: Fault::Mesh, told: Told::Complete, error }
    }
}

const fn broken_off(cause: live::Cause) -> (Flag, Fault, Told) {
    match cause {
        live::Cause::PolicyChanged => row(Flag::Deny, Fault::Configuration, Told::Complete),
        live::Cause::DrainDeadline => row(Flag::None, Fault::Mesh, Told::Complete),
        live::Cause::PodGone => row(Flag::None, Fault::Nobody, Told::Complete),
    }
}

const fn rejected(reject: &outbound::Reject) -> (Flag, Fault, Told) {
    use outbound::Reject;
    match reject {
        Reject::SelfCall(_) => row(Flag::None, Fault::Source, Told::Early),
        Reject::UnknownSource => row(Flag::Identity, Fault::Mesh, Told::Early),
        Reject::NoWaypoint(_) | Reject::NoEndpoint(_) => row(Flag::Connect, Fault::Destination, Told::Complete),
        Reject::OtherNetwork { .. } | Reject::NoAddress(_) => row(Flag::Connect, Fault::Configuration, Told::Complete),
        Reject::BadIdentity { .. } => row(Flag::Identity, Fault::Configuration, Told::Complete),
    }
}

fn unreachable(failure: &outbound::Failure) -> (Flag, Fault, Told) {
    use outbound::Failure;
    match failure {
        Failure::Connect(_) | Failure::Resolve { .. } => row(Flag::Connect, Fault::Destination, Told::Complete),
        Failure::ConnectDeadline(_) => row(Flag::NetworkPolicy, Fault::Destination, Told::Complete),
        Failure::Certificate(_) => row(Flag::Identity, Fault::Mesh, Told::Complete),
        Failure::Gone => row(Flag::None, Fault::Source, Told::Complete),
        Failure::PodGone => row(Flag::Connect, Fault::Destination, Told::Complete),
        Failure::Tunnel(open) => tunnel(open),
        Failure::Refused(reject) => (refused(reject).0, refused(reject).1, Told::Complete),
        Failure::NotServed(failure) => (not_served(failure).0, not_served(failure).1, Told::Complete),
    }
}

fn tunnel(open: &OpenError<DialError>) -> (Flag, Fault, Told) {
    let (flag, fault) = match open {
        OpenError::Dial(dial) => match &**dial {
            DialError::Connect(_) => (Flag::Connect, Fault::Destination),
            DialError::ConnectDeadline(_) | DialError::TlsDeadline(_) => (Flag::NetworkPolicy, Fault::Destination),
            DialError::Tls(error) => tls(error, Fault::Destination),
            DialError::Certificate(_) => (Flag::Identity, Fault::Mesh),
        },
        OpenError::DialDeadline(_) => (Flag::NetworkPolicy, Fault::Destination),
        OpenError::Begin(begin) => match &**begin {
            BeginError::Deadline(_) => (Flag::NetworkPolicy, Fault::Destination),
            BeginError::Protocol(_) => (Flag::Http2, Fault::Destination),
        },
        OpenError::Full => (Flag::Connect, Fault::Mesh),
        OpenError::Refused(status) if matches!(status.as_u16(), 401 | 403) => (Flag::Deny, Fault::Configuration),
        OpenError::Refused(_) | OpenError::Broken(_) => (Flag::Connect, Fault::Destination),
        OpenError::AnswerDeadline(_) => (Flag::NetworkPolicy, Fault::Destination),
    };
    row(flag, fault, Told::Complete)
}

const fn tls(error: &TlsError, peer: Fault) -> (Flag, Fault) {
    match error {
        TlsError::Refused(refused) => match refused {
            PeerRefused::Unexpected { .. } | PeerRefused::TrustDomain { .. } | PeerRefused::Name(_) => {
                (Flag::Identity, peer)
            }
            PeerRefused::Revoked => (Flag::Revoked, peer),
            PeerRefused::ChainTooLong(_)
            | PeerRefused::Expired
            | PeerRefused::NotYetValid
            | PeerRefused::UnknownRoot
            | PeerRefused::Untrusted(_)
            | PeerRefused::Purpose(_) => (Flag::Tls, peer),
        },
        TlsError::NoCertificate | TlsError::Alert(_) | TlsError::Protocol(_) | TlsError::NoHttp2 | TlsError::Io(_) => {
            (Flag::Tls, peer)
        }
    }
}

const fn refused(reject: &inbound::Reject) -> (Flag, Fault, Told) {
    use inbound::Reject;
    match reject {
        Reject::Denied(_) => row(Flag::Deny, Fault::Configuration, Told::Complete),
        Reject::BadConnect(_) | Reject::OtherAddress { .. } | Reject::NoSuchService(_) | Reject::SelfCall(_) => {
            row(Flag::Connect, Fault::Source, Told::Early)
        }
        Reject::UnknownDestination => row(Flag::Connect, Fault::Mesh, Told::Early),
    }
}

const fn not_served(failure: &inbound::Failure) -> (Flag, Fault, Told) {
    use inbound::Failure;
    match failure {
        Failure::Connect(_) => row(Flag::Connect, Fault::Destination, Told::Complete),
        Failure::ConnectDeadline(_) => row(Flag::NetworkPolicy, Fault::Destination, Told::Complete),
        Failure::Gone => row(Flag::None, Fault::Source, Told::Complete),
        Failure::Tls(error) => {
            let (flag, fault) = tls(error, Fault::Source);
            row(flag, fault, Told::Early)
        }
        Failure::TlsDeadline(_) => row(Flag::NetworkPolicy, Fault::Source, Told::Early),
        Failure::Http2(Http2Error::Deadline(_)) => row(Flag::NetworkPolicy, Fault::Source, Told::Early),
        Failure::Http2(Http2Error::Protocol(_)) => row(Flag::Http2, Fault::Source, Told::Early),
        Failure::Certificate(_) => row(Flag::Identity, Fault::Mesh, Told::Early),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io, sync::Arc, time::Duration};

    fn check(end: End, flag: &str, fault: Fault, told: Told, error: &str) {
        let row = Row::of(&end);
        let seen = (row.flag.label(), row.fault, row.told);
        assert_eq!(seen, (flag, fault, told), "{end:?}");
        let text = row.error.unwrap_or_default();
        assert!(text.contains(error) && text.is_empty() == error.is_empty(), "{end:?}: {text}");
    }

    fn refused_connection() -> io::Error {
        io::ErrorKind::ConnectionRefused.into()
    }

    fn tunnel(error: OpenError<DialError>) -> End {
        End::Unreachable(outbound::Failure::Tunnel(error))
    }

    #[test]
    fn flags_stand_in_the_order_of_their_index() {
        for (index, flag) in Flag::ALL.into_iter().enumerate() {
            assert_eq!(flag.index(), index);
        }
    }

    #[test]
    fn every_end_says_what_went_wrong_and_who_could_help() {
        use Fault::{Configuration, Destination, Mesh, Nobody, Source};
        use Told::{Complete, Early};
        let second = Duration::from_secs(1);
        let reset = || io::ErrorKind::ConnectionReset.into();
        check(End::Relayed(RelayEnd::Closed { first: Side::Upstream }), "-", Nobody, Complete, "");
        check(
            End::Relayed(RelayEnd::Broken { by: Side::Upstream, error: reset() }),
            "-",
            Destination,
            Complete,
            "broken by the destination: connection reset",
        );
        check(End::Relayed(RelayEnd::Broken { by: Side::Downstream, error: reset() }), "-", Source, Complete, "source");
        let revoked = || io::Error::new(io::ErrorKind::ConnectionAborted, "the peer's certificate has been revoked");
        check(
            End::Relayed(RelayEnd::Broken { by: Side::Downstream, error: revoked() }),
            "CERT_REVOKED",
            Source,
            Complete,
            "revoked",
        );
        check(End::BrokenOff(live::Cause::PolicyChanged), "DENY", Configuration, Complete, "policy change");
        check(End::Rejected(outbound::Reject::UnknownSource), "IDENTITY_ERROR", Mesh, Early, "not known");
        check(
            End::Rejected(outbound::Reject::NoWaypoint("shop/wp".into())),
            "CONNECT",
            Destination,
            Complete,
            "waypoint shop/wp",
        );
        let failure = outbound::Failure::Connect(refused_connection());
        check(End::Unreachable(failure), "CONNECT", Destination, Complete, "cannot connect");
        check(
            End::Unreachable(outbound::Failure::ConnectDeadline(second)),
            "NETWORK_POLICY",
            Destination,
            Complete,
            "within 1 s",
        );
        check(tunnel(OpenError::AnswerDeadline(second)), "NETWORK_POLICY", Destination, Complete, "CONNECT");
        check(tunnel(OpenError::Refused(http::StatusCode::UNAUTHORIZED)), "DENY", Configuration, Complete, "401");
        check(
            tunnel(OpenError::Refused(http::StatusCode::SERVICE_UNAVAILABLE)),
            "CONNECT",
            Destination,
            Complete,
            "503",
        );
        let dial = |error| tunnel(OpenError::Dial(Arc::new(error)));
        check(dial(DialError::Connect(refused_connection())), "CONNECT", Destination, Complete, "refused");
        check(dial(DialError::Tls(TlsError::NoHttp2)), "TLS_FAILURE", Destination, Complete, "ALPN");
        check(
            dial(DialError::Tls(TlsError::Refused(PeerRefused::Revoked))),
            "CERT_REVOKED",
            Destination,
            Complete,
            "revoked",
        );
        let peer = mesh::Identity::new("cluster.local", "a", "b").unwrap();
        let unexpected = TlsError::Refused(PeerRefused::Unexpected { peer });
        check(dial(DialError::Tls(unexpected)), "IDENTITY_ERROR", Destination, Complete, "spiffe://");
        check(
            tunnel(OpenError::Begin(Arc::new(BeginError::Protocol(reset())))),
            "H2_HANDSHAKE_FAILURE",
            Destination,
            Complete,
            "HTTP/2",
        );
        let denied = || {
            let reason = mesh::authz::Reason::NothingAllows;
            inbound::Reject::Denied(Box::new(mesh::authz::Verdict {
                allowed: false,
                reason,
                dry_run: Vec::new(),
                missing: Vec::new(),
            }))
        };
        check(
            End::Refused(denied().into()),
            "DENY",
            Configuration,
            Complete,
            "connection closed due to policy rejection: allow policies exist, but none allowed",
        );
        check(
            End::Unreachable(outbound::Failure::Refused(Arc::new(denied()))),
            "DENY",
            Configuration,
            Complete,
            "policy rejection",
        );
        check(End::Refused(inbound::Reject::UnknownDestination.into()), "CONNECT", Mesh, Early, "not known");
        let failure = inbound::Failure::Connect(refused_connection());
        check(End::NotServed(failure.into()), "CONNECT", Destination, Complete, "application");
        check(
            End::NotServed(inbound::Failure::Tls(TlsError::NoCertificate).into()),
            "TLS_FAILURE",
            Source,
            Early,
            "no certificate",
        );
    }
}
