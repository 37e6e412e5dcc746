//! The key that signs, on disk: made once, or plugged in; reloaded; replaced in time.
//!
//! In the state directory lie `ca-key.pem` and `ca-cert.pem`, and `root-cert.pem`: every root that a
//! workload is to trust now. While a root is replaced there are also `next-*.pem` or `old-cert.pem`,
//! and `rotation.json` with the step. A crash between two writes is completed at the next start.

use super::{
    files,
    rotation::{self, Stage, Step},
};
use arc_swap::ArcSwap;
use pki::issue::{Issuer, IssuerError, ROOT_LIFETIME};
use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

/// The signing key of the mesh. Readers get the issuer of now; [`Root::tick`] brings it forward.
pub struct Root {
    issuer: ArcSwap<Issuer>,
    /// Where the roots are also written for others to mount.
    state_dir: Option<PathBuf>,
    origin: Mutex<Origin>,
}

enum Origin {
    Own {
        trust_domain: String,
        overlap: Duration,
        stage: Stage,
    },
    Plugged {
        dir: PathBuf,
        last: Material,
    },
    /// Somebody else keeps the key, and brings it forward by [`Root::replace`].
    Kept,
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// A file cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificate is there, its key is not. A new root would cut off every workload.
    #[error("{0} is missing; restore it, or delete ca-cert.pem too to begin with a new root")]
    KeyLost(PathBuf),
    /// What is there cannot sign.
    #[error("the CA in {dir} is unusable: {source}")]
    Unusable {
        /// Where.
        dir: PathBuf,
        /// Why.
        source: IssuerError,
    },
    /// The files of a plugged-in CA were replaced by those of another mesh.
    #[error(
        "the roots in {0} have none in common with those that workloads trust now; \
         first add the new root to root-cert.pem beside the old, or restart to cut them off"
    )]
    Unrelated(PathBuf),
    /// A plugged-in CA is replaced by whoever plugged it in.
    #[error("the CA is plugged in from {0}; replace the files there")]
    NotOurs(PathBuf),
    /// The keeper of the key rotates it.
    #[error("the root is kept elsewhere, and rotated there")]
    KeptElsewhere,
}

/// The texts of a plugged-in CA.
#[derive(Clone, PartialEq, Eq)]
struct Material {
    key: String,
    certificate: String,
    above: String,
    roots: String,
}

pub(super) const KEY: &str = "ca-key.pem";
pub(super) const CERTIFICATE: &str = "ca-cert.pem";
pub(super) const ROOTS: &str = "root-cert.pem";
pub(super) const NEXT_KEY: &str = "next-key.pem";
pub(super) const NEXT_CERTIFICATE: &str = "next-cert.pem";
pub(super) const OLD_CERTIFICATE: &str = "old-cert.pem";
pub(super) const STAGE: &str = "rotation.json";

impl Root {
    /// The root of this state directory; makes one if there is none. `overlap` lies between the steps
    /// of its replacement and should be the life of the certificates that it signs.
    pub fn open(state_dir: &Path, trust_domain: &str, overlap: Duration, now: SystemTime) -> Result<Self, RootError> {
        let stage = match read_optional(state_dir, STAGE)? {
            Some(text) => serde_json::from_str(&text).map_err(|e| unreadable(state_dir, STAGE, e.into()))?,
            None => Stage::Steady,
        };
        if matches!(stage, Stage::Switched { .. }) {
            complete_switch(state_dir)?;
        }
        if read_optional(state_dir, CERTIFICATE)?.is_none() {
            make(state_dir, trust_domain, [KEY, CERTIFICATE], now)?;
        } else if read_optional(state_dir, KEY)?.is_none() {
            return Err(RootError::KeyLost(state_dir.join(KEY)));
        }
        let issuer = load(state_dir, stage, now)?;
        publish(state_dir, &issuer)?;
        let origin = Origin::Own { trust_domain: trust_domain.to_owned(), overlap, stage };
        Ok(Self::new(issuer, Some(state_dir), origin))
    }

    /// A plugged-in CA: a directory with `ca-cert.pem`, `ca-key.pem`, `root-cert.pem` and `cert-chain.pem`,
    /// or `tls.crt`, `tls.key` and `ca.crt`. `root-cert.pem` is also written to the state directory, if there is one.
    pub fn plugged(dir: &Path, state_dir: Option<&Path>, now: SystemTime) -> Result<Self, RootError> {
        let last = Material::read(dir)?;
        let issuer = last.issuer(dir, now)?;
        if let Some(state_dir) = state_dir {
            publish(state_dir, &issuer)?;
        }
        Ok(Self::new(issuer, state_dir, Origin::Plugged { dir: dir.to_owned(), last }))
    }

    /// A root whose key somebody else keeps.
    pub fn kept(issuer: Issuer) -> Self {
        Self::new(issuer, None, Origin::Kept)
    }

    /// Signs with another issuer from now on.
    pub fn replace(&self, issuer: Issuer) {
        self.issuer.store(Arc::new(issuer));
    }

    fn new(issuer: Issuer, state_dir: Option<&Path>, origin: Origin) -> Self {
        let state_dir = state_dir.map(Path::to_owned);
        Self { issuer: ArcSwap::from_pointee(issuer), state_dir, origin: Mutex::new(origin) }
    }

    /// The issuer of now.
    pub fn issuer(&self) -> Arc<Issuer> {
        self.issuer.load_full()
    }

    /// Does what is due: reads a plugged-in CA again, or takes the next step of a rotation. True if
    /// the issuer changed. On an error the issuer stays as it is. To be called every few seconds.
    pub fn tick(&self, now: SystemTime) -> Result<bool, RootError> {
        let begun = self.obey(now)?;
        Ok(self.proceed(now)? || begun)
    }

    fn proceed(&self, now: SystemTime) -> Result<bool, RootError> {
        let mut origin = self.origin();
        match &mut *origin {
            Origin::Own { trust_domain, overlap, stage } => {
                let signer = self.issuer();
                let signer = signer.certificate();
                let step = rotation::next(*stage, signer.not_before, signer.not_after, *overlap, now);
                self.take(step, trust_domain, stage, now)
            }
            Origin::Plugged { dir, last } => self.reload(dir, last, now),
            Origin::Kept => Ok(false),
        }
    }

    /// Begins to replace the root if an operator asked for that by a file, and takes the file away.
    fn obey(&self, now: SystemTime) -> Result<bool, RootError> {
        // Without a directory there is nowhere to ask.
        let Some(dir) = &self.state_dir else { return Ok(false) };
        if read_optional(dir, ASKED)?.is_none() {
            return Ok(false);
        }
        let begun = self.rotate(now);
        // What could not be written is tried again; an answer is an answer.
        if !matches!(begun, Err(RootError::File { .. })) {
            remove(dir, ASKED)?;
        }
        let begun = begun?;
        tracing::info!(begun, "an operator asked for a new root");
        Ok(begun)
    }

    /// Begins to replace the root, though its life is not near its end. False if that is under way already.
    pub fn rotate(&self, now: SystemTime) -> Result<bool, RootError> {
        match &mut *self.origin() {
            Origin::Own { trust_domain, stage: stage @ Stage::Steady, .. } => {
                self.take(Step::Announce, trust_domain, stage, now)
            }
            Origin::Own { .. } => Ok(false),
            Origin::Plugged { dir, .. } => Err(RootError::NotOurs(dir.clone())),
            Origin::Kept => Err(RootError::KeptElsewhere),
        }
    }

    fn origin(&self) -> MutexGuard<'_, Origin> {
        self.origin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, step: Step, trust_domain: &str, stage: &mut Stage, now: SystemTime) -> Result<bool, RootError> {
        // A root of our own was opened with a directory.
        let Some(dir) = &self.state_dir else { return Ok(false) };
        let since = rotation::seconds(now);
        let next = match step {
            Step::Stay => return Ok(false),
            Step::Announce => {
                make(dir, trust_domain, [NEXT_KEY, NEXT_CERTIFICATE], now)?;
                Stage::Announced { since }
            }
            Step::Switch => {
                write(dir, OLD_CERTIFICATE, &read(dir, CERTIFICATE)?)?;
                Stage::Switched { since }
            }
            Step::Drop => Stage::Steady,
        };
        // The step is written before it is completed, so that a crash in between is made good by `open`.
        let text = serde_json::to_string(&next).map_err(|e| unreadable(dir, STAGE, e.into()))?;
        write(dir, STAGE, &text)?;
        match next {
            Stage::Switched { .. } => complete_switch(dir)?,
            Stage::Steady => remove(dir, OLD_CERTIFICATE)?,
            Stage::Announced { .. } => {}
        }
        *stage = next;
        let issuer = load(dir, next, now)?;
        tracing::info!(?step, signer = %issuer.certificate().serial, roots = issuer.roots().len(), "root rotation");
        publish(dir, &issuer)?;
        self.issuer.store(Arc::new(issuer));
        Ok(true)
    }

    fn reload(&self, dir: &Path, last: &mut Material, now: SystemTime) -> Result<bool, RootError> {
        let fresh = Material::read(dir)?;
        if fresh == *last {
            return Ok(false);
        }
        let issuer = fresh.issuer(dir, now)?;
        let trusted = self.issuer();
        let common = issuer.roots().iter().any(|new| trusted.roots().iter().any(|old| old.der == new.der));
        if !common {
            return Err(RootError::Unrelated(dir.to_owned()));
        }
        if let Some(state_dir) = &self.state_dir {
            publish(state_dir, &issuer)?;
        }
        tracing::info!(signer = %issuer.certificate().serial, roots = issuer.roots().len(), "plugged-in CA reloaded");
        self.issuer.store(Arc::new(issuer));
        *last = fresh;
        Ok(true)
    }
}

impl Material {
    fn read(dir: &Path) -> Result<Self, RootError> {
        if read_optional(dir, "tls.crt")?.is_some() {
            let certificates = read(dir, "tls.crt")?;
            return Ok(Self {
                key: read(dir, "tls.key")?,
                certificate: certificates.clone(),
                above: certificates,
                roots: read(dir, "ca.crt")?,
            });
        }
        Ok(Self {
            key: read(dir, KEY)?,
            certificate: read(dir, CERTIFICATE)?,
            above: read_optional(dir, "cert-chain.pem")?.unwrap_or_default(),
            roots: read(dir, ROOTS)?,
        })
    }

    fn issuer(&self, dir: &Path, now: SystemTime) -> Result<Issuer, RootError> {
        Issuer::from_pem(&self.key, &self.certificate, &self.above, &self.roots, now)
            .map_err(|source| RootError::Unusable { dir: dir.to_owned(), source })
    }
}

/// An operator who wants another root makes this file (`touch`); it is gone when that has begun.
const ASKED: &str = "rotate-root";

/// The issuer that the files say, with the roots that its stage of rotation says.
fn load(dir: &Path, stage: Stage, now: SystemTime) -> Result<Issuer, RootError> {
    let certificate = read(dir, CERTIFICATE)?;
    let beside = match stage {
        Stage::Steady => String::new(),
        Stage::Announced { .. } => read(dir, NEXT_CERTIFICATE)?,
        Stage::Switched { .. } => read(dir, OLD_CERTIFICATE)?,
    };
    let roots = format!("{certificate}{beside}");
    Issuer::from_pem(&read(dir, KEY)?, &certificate, "", &roots, now)
        .map_err(|source| RootError::Unusable { dir: dir.to_owned(), source })
}

/// A new root. The key comes first: without its certificate nobody has seen it, and it is made anew.
fn make(dir: &Path, trust_domain: &str, [key, certificate]: [&str; 2], now: SystemTime) -> Result<(), RootError> {
    let issuer = Issuer::self_signed(trust_domain, ROOT_LIFETIME, now)
        .map_err(|source| RootError::Unusable { dir: dir.to_owned(), source })?;
    write(dir, key, &issuer.key_pem())?;
    write(dir, certificate, issuer.certificate_pem())
}

/// Makes the next root the signing one, as far as that has not been done.
fn complete_switch(dir: &Path) -> Result<(), RootError> {
    let Some(certificate) = read_optional(dir, NEXT_CERTIFICATE)? else { return Ok(()) };
    if let Some(key) = read_optional(dir, NEXT_KEY)? {
        write(dir, KEY, &key)?;
    }
    write(dir, CERTIFICATE, &certificate)?;
    remove(dir, NEXT_KEY)?;
    remove(dir, NEXT_CERTIFICATE)
}

/// Tells everybody who mounts the state directory which roots to trust.
fn publish(dir: &Path, issuer: &Issuer) -> Result<(), RootError> {
    files::write_public(&dir.join(ROOTS), issuer.roots_pem()).map_err(|e| unreadable(dir, ROOTS, e))
}

fn read(dir: &Path, name: &str) -> Result<String, RootError> {
    std::fs::read_to_string(dir.join(name)).map_err(|e| unreadable(dir, name, e))
}

fn read_optional(dir: &Path, name: &str) -> Result<Option<String>, RootError> {
    files::read_if_there(&dir.join(name)).map_err(|e| unreadable(dir, name, e))
}

fn write(dir: &Path, name: &str, text: &str) -> Result<(), RootError> {
    files::write_secret(&dir.join(name), text).map_err(|e| unreadable(dir, name, e))
}

fn remove(dir: &Path, name: &str) -> Result<(), RootError> {
    files::remove(&dir.join(name)).map_err(|e| unreadable(dir, name, e))
}

fn unreadable(dir: &Path, name: &str, source: io::Error) -> RootError {
    RootError::File { path: dir.join(name), source }
}

/// Never prints the key.
impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root")
            .field("issuer", &self.issuer())
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
