//! What went wrong with a request, as Envoy abbreviates it in logs and in the label `response_flags`.

use std::fmt;

/// One thing that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Flag {
    /// No endpoint can be used.
    NoHealthyUpstream,
    /// The whole request, or one try, took too long.
    UpstreamTimeout,
    /// We reset the stream.
    LocalReset,
    /// The upstream reset the stream.
    UpstreamReset,
    /// No connection to the upstream came about.
    UpstreamConnectionFailure,
    /// The upstream's connection ended before its response.
    UpstreamConnectionTermination,
    /// A limit of connections or requests.
    UpstreamOverflow,
    /// No route.
    NoRoute,
    /// A delay on purpose.
    DelayInjected,
    /// An answer on purpose.
    FaultInjected,
    /// A rate limit.
    RateLimited,
    /// An authorizer refused, or could not be asked.
    UnauthorizedExternal,
    /// A rate limit service could not be asked.
    RateLimitServiceError,
    /// The caller left.
    DownstreamTermination,
    /// All tries failed.
    RetryLimitExceeded,
    /// Nothing moved for too long.
    StreamIdleTimeout,
    /// The caller broke the protocol.
    DownstreamProtocolError,
    /// The connection reached its age.
    DurationTimeout,
    /// The upstream broke the protocol.
    UpstreamProtocolError,
    /// The destination does not exist.
    NoCluster,
    /// We have too much to do.
    Overload,
    /// The destination's name cannot be resolved.
    DnsFailure,
}

impl Flag {
    /// Every flag, in the order in which Envoy prints them.
    pub const ALL: [Self; 22] = [
        Self::NoHealthyUpstream,
        Self::UpstreamTimeout,
        Self::LocalReset,
        Self::UpstreamReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamOverflow,
        Self::NoRoute,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::RateLimited,
        Self::UnauthorizedExternal,
        Self::RateLimitServiceError,
        Self::DownstreamTermination,
        Self::RetryLimitExceeded,
        Self::StreamIdleTimeout,
        Self::DownstreamProtocolError,
        Self::DurationTimeout,
        Self::UpstreamProtocolError,
        Self::NoCluster,
        Self::Overload,
        Self::DnsFailure,
    ];

    /// What Envoy writes.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamTimeout => "UT",
            Self::LocalReset => "LR",
            Self::UpstreamReset => "UR",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamConnectionTermination => "UC",
            Self::UpstreamOverflow => "UO",
            Self::NoRoute => "NR",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::RateLimited => "RL",
            Self::UnauthorizedExternal => "UAEX",
            Self::RateLimitServiceError => "RLSE",
            Self::DownstreamTermination => "DC",
            Self::RetryLimitExceeded => "URX",
            Self::StreamIdleTimeout => "SI",
            Self::DownstreamProtocolError => "DPE",
            Self::DurationTimeout => "DT",
            Self::UpstreamProtocolError => "UPE",
            Self::NoCluster => "NC",
            Self::Overload => "OM",
            Self::DnsFailure => "DF",
        }
    }
}

/// Everything that went wrong with a request; prints as `-` or `UF,URX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u32);

impl Flags {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub const fn add(&mut self, flag: Flag) {
        self.0 |= 1 << flag as u8;
    }

    /// The same, with one more.
    #[must_use]
    pub const fn with(self, flag: Flag) -> Self {
        Self(self.0 | 1 << flag as u8)
    }

    /// Whether it is one of them.
    pub const fn has(self, flag: Flag) -> bool {
        self.0 & (1 << flag as u8) != 0
    }

    /// Whether nothing went wrong.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl From<Flag> for Flags {
    fn from(flag: Flag) -> Self {
        Self::NONE.with(flag)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        let mut first = true;
        for flag in Flag::ALL.into_iter().filter(|flag| self.has(*flag)) {
            f.write_str(if first { "" } else { "," })?;
            f.write_str(flag.label())?;
            first = false;
        }
        Ok(())
    }
}
