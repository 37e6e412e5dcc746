//! The request to certify a key: how a workload writes it, and how an authority reads it.
//!
//! Written: P-256, SHA-256, empty subject, one critical subject alternative name with the SPIFFE
//! URI. Read: the signature is checked and the public key taken; whatever else a request asks for
//! (names, usages, being a CA) is never looked at.

use crate::limits::CSR_BYTES_MAX;
use mesh::Identity;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType, SubjectPublicKeyInfo};
use rustls_pki_types::{CertificateSigningRequestDer, PrivatePkcs8KeyDer, pem::PemObject};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer, public_key::PublicKey};

/// A fresh key and the request that asks to certify it. The key never leaves the process.
pub struct Request {
    /// PEM of the PKCS#10 request.
    pub csr: String,
    /// The private key, PKCS#8.
    pub key: PrivatePkcs8KeyDer<'static>,
}

/// No key or no request could be made.
#[derive(Debug, thiserror::Error)]
#[error("could not make a key and a certificate request: {0}")]
pub struct RequestError(#[from] rcgen::Error);

/// A new key, and a request for `identity`.
pub fn request(identity: &Identity) -> Result<Request, RequestError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    let csr = params.serialize_request(&key)?.pem()?;
    Ok(Request { csr, key: PrivatePkcs8KeyDer::from(key.serialize_der()) })
}

/// Why a request is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// Larger than any honest request.
    #[error("the request has {0} bytes, more than {CSR_BYTES_MAX}")]
    TooLarge(usize),
    /// Not PEM of a PKCS#10 request.
    #[error("the request is not PEM of a PKCS#10 certificate request: {0}")]
    Unreadable(String),
    /// Whoever asks does not have the private key.
    #[error("the signature of the request does not match its key")]
    Signature,
    /// A key that we do not certify.
    #[error("the key is not P-256, P-384, Ed25519 or RSA of 2048 to 8192 bits: {0}")]
    Key(String),
}

/// The public key that a request asks to certify, proven to be the requester's.
pub fn public_key(csr: &str) -> Result<SubjectPublicKeyInfo, BadRequest> {
    if csr.len() > CSR_BYTES_MAX {
        return Err(BadRequest::TooLarge(csr.len()));
    }
    let unreadable = |reason: &dyn ToString| BadRequest::Unreadable(reason.to_string());
    let der = CertificateSigningRequestDer::from_pem_slice(csr.as_bytes()).map_err(|e| unreadable(&e))?;
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|e| unreadable(&e))?;
    if !rest.is_empty() {
        return Err(unreadable(&"bytes after its end"));
    }
    let key = &request.certification_request_info.subject_pki;
    match key.parsed().map_err(|e| BadRequest::Key(e.to_string()))? {
        PublicKey::RSA(rsa) if !(2048..=8192).contains(&rsa.key_size()) => {
            return Err(BadRequest::Key(format!("RSA of {} bits", rsa.key_size())));
        }
        _ => {}
    }
    request.verify_signature().map_err(|_| BadRequest::Signature)?;
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|e| BadRequest::Key(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::extensions::{GeneralName, ParsedExtension};

    fn web() -> Identity {
        Identity::new("cluster.local", "shop", "web").unwrap()
    }

    #[test]
    fn a_request_is_what_istio_asks_for() {
        let made = request(&web()).unwrap();
        let der = CertificateSigningRequestDer::from_pem_slice(made.csr.as_bytes()).unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&der).unwrap();
        assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
        assert_eq!(csr.signature_algorithm.algorithm.to_id_string(), "1.2.840.10045.4.3.2", "ECDSA with SHA-256");
        assert!(
            matches!(csr.certification_request_info.subject_pki.parsed(), Ok(PublicKey::EC(p)) if p.key_size() == 256)
        );
        let extensions: Vec<_> = csr.certification_request_info.iter_attributes().collect();
        assert_eq!(extensions.len(), 1);
        let mut names = csr.requested_extensions().unwrap();
        let Some(ParsedExtension::SubjectAlternativeName(san)) = names.next() else { panic!("no name") };
        assert_eq!(san.general_names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/web")]);
        assert!(names.next().is_none());
    }

    #[test]
    fn a_request_gives_its_public_key() {
        let made = request(&web()).unwrap();
        let pair = KeyPair::try_from(&made.key).unwrap();
        let key = public_key(&made.csr).unwrap();
        assert_eq!(
            rcgen::PublicKeyData::subject_public_key_info(&key),
            rcgen::PublicKeyData::subject_public_key_info(&pair)
        );
    }

    #[test]
    fn what_is_no_honest_request_is_refused() {
        let good = request(&web()).unwrap().csr;
        let other = KeyPair::generate().unwrap().serialize_pem();
        let broken = {
            let mut der = CertificateSigningRequestDer::from_pem_slice(good.as_bytes()).unwrap().as_ref().to_vec();
            let last = der.len() - 1;
            der[last] ^= 1;
            pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der))
        };
        let cut = {
            let der = CertificateSigningRequestDer::from_pem_slice(good.as_bytes()).unwrap().as_ref().to_vec();
            pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", &der[..der.len() / 2]))
        };
        let check = |name: &str, text: &str, want: fn(&BadRequest) -> bool| match public_key(text) {
            Err(bad) if want(&bad) => {}
            Err(bad) => panic!("{name}: refused for another reason: {bad}"),
            Ok(_) => panic!("{name}: taken"),
        };
        check("nothing", "", |e| matches!(e, BadRequest::Unreadable(_)));
        check("a private key", &other, |e| matches!(e, BadRequest::Unreadable(_)));
        check("half a request", &cut, |e| matches!(e, BadRequest::Unreadable(_)));
        check("a changed signature", &broken, |e| matches!(e, BadRequest::Signature));
        check("huge", &"x".repeat(CSR_BYTES_MAX + 1), |e| matches!(e, BadRequest::TooLarge(_)));
    }
}
