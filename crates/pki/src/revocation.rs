//! Certificates that are believed no more though their time is not over: revocation lists.
//!
//! A list counts for what its signer has issued; of the rest nothing is known, and what is not known
//! to be revoked is believed. Connections that are open break off.

use crate::limits::{FILE_BYTES_MAX, REVOCATION_LOOK};
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use std::{fmt, fs::File, io::Read, path::Path, sync::Arc};
use tokio::{sync::watch, time::sleep};
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};

/// The revocation lists of now, shared by all who verify; none at first. Cloning it is cheap.
#[derive(Clone)]
pub struct Revocations {
    // The sender is kept with the receiver: without a file there is nobody else to hold it.
    sender: Arc<watch::Sender<Lists>>,
    seen: watch::Receiver<Lists>,
}

/// Lists at one instant.
#[derive(Clone, Default)]
pub(crate) struct Lists(Arc<Vec<CertRevocationList<'static>>>);

/// Why revocation lists are not used; those of before stay in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevocationError {
    /// The file cannot be read.
    #[error("cannot read the revocation lists: {0}")]
    File(String),
    /// A list in it is broken.
    #[error("a revocation list is unusable: {0}")]
    List(String),
}

impl Default for Revocations {
    fn default() -> Self {
        let (sender, seen) = watch::channel(Lists::default());
        Self { sender: Arc::new(sender), seen }
    }
}

impl Revocations {
    /// The lists of a PEM text take the place of those of before. What is in it besides is passed over.
    pub fn replace(&self, pem: &str) -> Result<(), RevocationError> {
        let bad = |reason: &dyn ToString| RevocationError::List(reason.to_string());
        let mut lists = Vec::new();
        for der in CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|e| bad(&e))?;
            lists.push(OwnedCertRevocationList::from_der(&der).map_err(|e| bad(&e))?.into());
        }
        self.sender.send_replace(Lists(Arc::new(lists)));
        Ok(())
    }

    /// The lists of a file, as it is now; then [`Self::follow`] it. A file that is not there revokes nothing.
    pub fn of_file(path: &Path) -> Self {
        let revocations = Self::default();
        revocations.take(path, &read(path));
        revocations
    }

    /// Follows a file as long as the future lives. One that is broken leaves what was.
    pub async fn follow(&self, path: &Path) {
        let mut last = None;
        loop {
            let read = read(path);
            if last.as_ref() != Some(&read) {
                self.take(path, &read);
                last = Some(read);
            }
            sleep(REVOCATION_LOOK).await;
        }
    }

    fn take(&self, path: &Path, read: &Result<String, RevocationError>) {
        let path = path.display();
        match read.clone().and_then(|text| self.replace(&text)) {
            Ok(()) => tracing::info!(%path, lists = self.now().0.len(), "revocation lists read"),
            Err(error) => tracing::error!(%path, %error, "the revocation lists stay as they were"),
        }
    }

    pub(crate) fn now(&self) -> Lists {
        self.seen.borrow().clone()
    }

    /// Resolves when the lists have changed since this handle last waited.
    pub(crate) async fn changed(&mut self) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.seen.changed().await;
    }
}

/// The text of the file; none if there is none. Read in place: it is small and projected into memory.
fn read(path: &Path) -> Result<String, RevocationError> {
    let failed = |e: std::io::Error| RevocationError::File(e.to_string());
    let mut text = String::new();
    let file = match File::open(path) {
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(text),
        opened => opened.map_err(failed)?,
    };
    let length = file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if length as u64 > FILE_BYTES_MAX { Err(failed(std::io::Error::other("it is too large"))) } else { Ok(text) }
}

impl Lists {
    /// Gives path building what it wants of them; nothing, if there are no lists.
    pub(crate) fn with_options<T>(&self, ask: impl FnOnce(Option<RevocationOptions<'_>>) -> T) -> T {
        let lists: Vec<&CertRevocationList<'_>> = self.0.iter().collect();
        let options = RevocationOptionsBuilder::new(&lists).ok().map(|builder| {
            builder
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        ask(options)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("lists", &self.now().0.len()).finish()
    }
}

#[cfg(test)]
mod tests;
