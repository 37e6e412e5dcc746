//! Asks a certificate authority for what is not due: every caller, with every token that does not
//! hold and with its good one, for every identity. Says who got what was not theirs.

use clap::Args;
use mesh::Identity;
use serde::{Deserialize, Serialize};
use testkit::{
    authority::{Answer, Caller, Place},
    tokens::{FLAWS, Holder, Signer, claims},
};

/// A token that is not believed.
const NOT_BELIEVED: &str = "Unauthenticated: request authenticate failure";
/// A caller that is believed and may not have what it asks for.
const NOT_ALLOWED: &str = "Unauthenticated: request impersonation authentication failure";

/// What to do.
#[derive(Debug, Args)]
pub struct Options {
    /// The authority: `https://host:port`.
    pub address: String,
    /// Its root certificates, in PEM.
    #[arg(long, allow_hyphen_values = true)]
    pub roots: String,
    /// The key that tokens are signed with, in PEM.
    #[arg(long, allow_hyphen_values = true)]
    pub key: String,
    /// The [`Plan`], as JSON.
    #[arg(long)]
    pub plan: String,
}

/// Who asks for what.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plan {
    /// Those who ask.
    pub callers: Vec<Claimant>,
    /// Identities that each asks for: with its good token all, with a bad one the first four.
    pub identities: Vec<String>,
}

/// One who asks.
#[derive(Debug, Serialize, Deserialize)]
pub struct Claimant {
    /// Its namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// Its service account.
    pub account: String,
    /// Another pod of its namespace, with its uid, that has another account.
    pub neighbour: Option<(String, String)>,
    /// What it gets when it asks for others.
    pub may: Vec<String>,
}

/// What happened.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Requests.
    pub asked: usize,
    /// Certificates.
    pub granted: usize,
    /// What should have been otherwise, in words.
    pub wrong: Vec<String>,
}

impl Report {
    async fn ask(&mut self, caller: &Caller, identity: &Identity, due: Result<(), &str>, what: &str) {
        let got = caller.ask(identity).await;
        self.asked += 1;
        self.granted += usize::from(matches!(got, Answer::Certificate(_)));
        let right = match (&got, due) {
            (Answer::Certificate(given), Ok(())) => given == identity,
            (Answer::Refused(message), Err(wanted)) => message == wanted,
            _ => false,
        };
        if !right {
            self.wrong.push(format!("{what} asks for {identity}: want {due:?}, got {got:?}"));
        }
    }
}

/// Asks, and reports.
pub async fn run(options: Options) -> anyhow::Result<Report> {
    let plan: Plan = serde_json::from_str(&options.plan)?;
    let place = Place { address: options.address, roots: options.roots };
    let signer = Signer::new(&options.key);
    let identities: Vec<Identity> = plan.identities.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let mut report = Report::default();
    for claimant in &plan.callers {
        let Claimant { namespace, pod, uid, account, neighbour, may } = claimant;
        let neighbour = neighbour.as_ref().map(|(pod, uid)| (&**pod, &**uid));
        // Whatever node the token says: where the caller is, the authority knows by itself.
        for node in ["node1", "node2", ""] {
            let token = signer.sign(&claims(&Holder { namespace, pod, uid, account, node, neighbour }));
            let what = format!("{namespace}/{pod}, whose token says {node:?},");
            let caller = Caller::for_others(&place, &token, "Kubernetes").map_err(anyhow::Error::msg)?;
            for identity in &identities {
                let due = if may.contains(&identity.to_string()) { Ok(()) } else { Err(NOT_ALLOWED) };
                report.ask(&caller, identity, due, &what).await;
            }
            let caller = Caller::for_itself(&place, &token, "Kubernetes").map_err(anyhow::Error::msg)?;
            let own = Identity::new("cluster.local", namespace, account)?;
            report.ask(&caller, &own, Ok(()), &what).await;
        }
        for flaw in FLAWS {
            let holder = Holder { namespace, pod, uid, account, node: "node1", neighbour };
            let (token, cluster) = signer.flawed(*flaw, &holder);
            let caller = Caller::for_others(&place, &token, cluster).map_err(anyhow::Error::msg)?;
            for identity in identities.iter().take(4) {
                report.ask(&caller, identity, Err(NOT_BELIEVED), &format!("{namespace}/{pod} with {flaw:?}")).await;
            }
        }
    }
    Ok(report)
}
