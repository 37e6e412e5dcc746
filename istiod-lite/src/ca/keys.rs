//! The texts of a root that is kept in a Secret: made, read, and taken from one step of its rotation to
//! the next. Pure. All of them change together, so no order of writes can leave half a root.

use super::{
    root::{CERTIFICATE, KEY, NEXT_CERTIFICATE, NEXT_KEY, OLD_CERTIFICATE, ROOTS, STAGE},
    rotation::{self, Stage, Step},
};
use pki::issue::{Issuer, IssuerError, ROOT_LIFETIME};
use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

/// What a Secret with a root holds: name → text. It never prints them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) BTreeMap<String, String>);

/// Why the texts are no root.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// One is missing. A new root would cut off every workload.
    #[error("{0} is missing; restore it, or delete the Secret to begin with a new root")]
    Missing(&'static str),
    /// The step of the rotation is unreadable.
    #[error("{STAGE} cannot be read: {0}")]
    Stage(#[from] serde_json::Error),
    /// They cannot sign.
    #[error("they cannot sign: {0}")]
    Unusable(#[from] IssuerError),
}

impl Keys {
    /// A new root.
    pub(crate) fn fresh(trust_domain: &str, now: SystemTime) -> Result<Self, KeysError> {
        let issuer = Issuer::self_signed(trust_domain, ROOT_LIFETIME, now)?;
        let texts = [
            (KEY, issuer.key_pem()),
            (CERTIFICATE, issuer.certificate_pem().to_owned()),
            (ROOTS, issuer.roots_pem().to_owned()),
            // Istio's tools expect these names, though a root has nothing to say there.
            ("cert-chain.pem", String::new()),
            ("key.pem", String::new()),
        ];
        Ok(Self(texts.map(|(name, text)| (name.to_owned(), text)).into()))
    }

    /// Who signs now, and whom to trust.
    pub(crate) fn issuer(&self, now: SystemTime) -> Result<Issuer, KeysError> {
        let certificate = self.text(CERTIFICATE)?;
        let beside = match self.stage()? {
            Stage::Steady => "",
            Stage::Announced { .. } => self.text(NEXT_CERTIFICATE)?,
            Stage::Switched { .. } => self.text(OLD_CERTIFICATE)?,
        };
        let roots = format!("{certificate}\n{beside}");
        Ok(Issuer::from_pem(self.text(KEY)?, certificate, "", &roots, now)?)
    }

    /// The texts after the step that is due now, if one is.
    pub(crate) fn next(
        &self,
        trust_domain: &str,
        overlap: Duration,
        now: SystemTime,
    ) -> Result<Option<Self>, KeysError> {
        let issuer = self.issuer(now)?;
        let signer = issuer.certificate();
        let step = rotation::next(self.stage()?, signer.not_before, signer.not_after, overlap, now);
        if step == Step::Stay { Ok(None) } else { self.after(step, trust_domain, now).map(Some) }
    }

    fn after(&self, step: Step, trust_domain: &str, now: SystemTime) -> Result<Self, KeysError> {
        let mut next = self.clone();
        let mut set = |name: &str, text: String| next.0.insert(name.to_owned(), text);
        let since = rotation::seconds(now);
        let stage = match step {
            Step::Stay => return Ok(next),
            Step::Announce => {
                let made = Issuer::self_signed(trust_domain, ROOT_LIFETIME, now)?;
                set(NEXT_KEY, made.key_pem());
                set(NEXT_CERTIFICATE, made.certificate_pem().to_owned());
                Stage::Announced { since }
            }
            Step::Switch => {
                set(OLD_CERTIFICATE, self.text(CERTIFICATE)?.to_owned());
                set(KEY, self.text(NEXT_KEY)?.to_owned());
                set(CERTIFICATE, self.text(NEXT_CERTIFICATE)?.to_owned());
                next.0.remove(NEXT_KEY);
                next.0.remove(NEXT_CERTIFICATE);
                Stage::Switched { since }
            }
            Step::Drop => {
                next.0.remove(OLD_CERTIFICATE);
                Stage::Steady
            }
        };
        next.0.insert(STAGE.to_owned(), serde_json::to_string(&stage)?);
        let roots = next.issuer(now)?.roots_pem().to_owned();
        next.0.insert(ROOTS.to_owned(), roots);
        Ok(next)
    }

    fn stage(&self) -> Result<Stage, KeysError> {
        self.0.get(STAGE).map_or(Ok(Stage::Steady), |text| Ok(serde_json::from_str(text)?))
    }

    fn text(&self, name: &'static str) -> Result<&str, KeysError> {
        self.0.get(name).filter(|text| !text.is_empty()).map(|text| &**text).ok_or(KeysError::Missing(name))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    fn begin() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    /// Signer and trusted roots, by serial.
    fn shown(keys: &Keys, now: SystemTime) -> (String, Vec<String>) {
        let issuer = keys.issuer(now).unwrap();
        (issuer.certificate().serial.clone(), issuer.roots().iter().map(|root| root.serial.clone()).collect())
    }

    #[test]
    fn a_root_is_replaced_in_steps_with_an_overlap() {
        let keys = Keys::fresh("mesh", begin()).unwrap();
        let (old, trusted) = shown(&keys, begin());
        assert_eq!(trusted, std::slice::from_ref(&old));
        assert_eq!(keys.next("mesh", DAY, begin() + DAY).unwrap(), None);

        let late = begin() + ROOT_LIFETIME.mul_f64(0.81);
        let announced = keys.next("mesh", DAY, late).unwrap().expect("it is near its end");
        let (signer, trusted) = shown(&announced, late);
        assert_eq!((&signer, trusted.len()), (&old, 2));
        assert_eq!(announced.next("mesh", DAY, late + DAY / 2).unwrap(), None);

        let switched = announced.next("mesh", DAY, late + DAY).unwrap().expect("everybody knows it");
        let (new, trusted) = shown(&switched, late + DAY);
        assert!(new != old && trusted.contains(&old) && trusted.contains(&new));
        assert_eq!(switched.next("mesh", DAY, late + DAY).unwrap(), None);

        let dropped = switched.next("mesh", DAY, late + 2 * DAY).unwrap().expect("nobody needs the old one");
        assert_eq!(shown(&dropped, late + 2 * DAY), (new.clone(), vec![new]));
        assert_eq!(dropped.0[ROOTS], dropped.issuer(late + 2 * DAY).unwrap().roots_pem());
        assert!(!dropped.0.contains_key(OLD_CERTIFICATE) && !dropped.0.contains_key(NEXT_KEY));
    }

    #[test]
    fn what_is_missing_is_named_and_never_made_anew() {
        let keys = Keys::fresh("mesh", begin()).unwrap();
        for name in [KEY, CERTIFICATE] {
            let mut lost = keys.clone();
            lost.0.insert(name.to_owned(), String::new());
            assert!(matches!(lost.issuer(begin()), Err(KeysError::Missing(missing)) if missing == name));
        }
        let mut broken = keys;
        broken.0.insert(STAGE.to_owned(), "{}".to_owned());
        assert!(matches!(broken.issuer(begin()), Err(KeysError::Stage(_))));
        assert_eq!(format!("{:?}", Keys([("a".to_owned(), "secret".to_owned())].into())), r#"{"a"}"#);
    }
}
