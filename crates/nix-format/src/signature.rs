//! Ed25519 keys and signatures in Nix's notation, `name:base64`.
//!
//! A public key is `name:` and 32 bytes, a secret key `name:` and 64 bytes (seed, then public key, as libsodium has them),
//! a signature `name:` and 64 bytes. The name says which key to try; it proves nothing by itself.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

/// The name in front of the colon, such as `cache.example.org-1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyName(String);

impl KeyName {
    /// The name as text: not empty, no colon, no white space, printable ASCII.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyName {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if text.is_empty() || text.bytes().any(|byte| byte == b':' || !byte.is_ascii_graphic()) {
            return Err(KeyError::Name(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A key that may be given to everybody: `name:` and the base64 of 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: KeyName,
    key: VerifyingKey,
}

impl PublicKey {
    /// The name that signatures of this key carry.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// Whether `signature` carries this key's name and was made over exactly `message` by its secret half.
    ///
    /// Strict verification: malleable and small-order signatures are refused, as libsodium (and so Nix) refuses them.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        self.name == signature.name
            && self.key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(&signature.bytes)).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = parse_named::<32>(text, "public key")?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::NotOnCurve { name: name.to_string() })?;
        Ok(Self { name, key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.key.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// The public keys that a reader trusts, in the order in which they were given.
///
/// Several keys let a site replace its key without a day on which nothing verifies. Two keys may share a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicKeys(Vec<PublicKey>);

impl PublicKeys {
    /// Trusts exactly these keys; none at all trusts nothing.
    pub fn new(keys: Vec<PublicKey>) -> Self {
        Self(keys)
    }

    /// The keys, in order.
    pub fn iter(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.iter()
    }

    /// True if there is no key, so that nothing can be verified.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the first trusted key that made one of `signatures` over `message`.
    ///
    /// One good signature is enough; those by unknown keys are passed over.
    pub fn verify<'a>(
        &self,
        message: &[u8],
        signatures: impl IntoIterator<Item = &'a Signature>,
    ) -> Option<&PublicKey> {
        signatures.into_iter().find_map(|signature| self.0.iter().find(|key| key.verifies(message, signature)))
    }
}

impl FromStr for PublicKeys {
    type Err = KeyError;

    /// Parses keys separated by white space: a file with one key per line, or the value of `trusted-public-keys`.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        text.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>().map(Self)
    }
}

impl FromIterator<PublicKey> for PublicKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

/// The key that signs; only the publisher has it.
#[derive(Clone)]
pub struct SecretKey {
    name: KeyName,
    key: SigningKey,
}

impl SecretKey {
    /// Makes a key from 32 bytes, which must come from the operating system's random generator.
    pub fn from_seed(name: KeyName, seed: &[u8; 32]) -> Self {
        Self { name, key: SigningKey::from_bytes(seed) }
    }

    /// The name that signatures of this key carry.
    pub fn name(&self) -> &KeyName {
        &self.name
    }

    /// The half that readers need.
    pub fn public_key(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs `message`. Ed25519 is deterministic: the same message gives the same signature.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature { name: self.name.clone(), bytes: self.key.sign(message).to_bytes() }
    }

    /// The key as the text of a secret key file, without a newline.
    ///
    /// Not a `Display`, so that no format string prints a secret by accident.
    pub fn to_secret_text(&self) -> String {
        format!("{}:{}", self.name, STANDARD.encode(self.key.to_keypair_bytes()))
    }
}

impl FromStr for SecretKey {
    type Err = KeyError;

    /// Parses a secret key file; white space around the key is passed over.
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = parse_named::<64>(text.trim_ascii(), "secret key")?;
        let key =
            SigningKey::from_keypair_bytes(&bytes).map_err(|_| KeyError::HalvesDiffer { name: name.to_string() })?;
        Ok(Self { name, key })
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}:…)", self.name)
    }
}

/// One signature: the name of the key, and 64 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    name: KeyName,
    bytes: [u8; 64],
}

impl Signature {
    /// The name of the key that is said to have made it.
    pub fn name(&self) -> &KeyName {
        &self.name
    }
}

impl FromStr for Signature {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = parse_named::<64>(text, "signature")?;
        Ok(Self { name, bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, STANDARD.encode(self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

/// What a key or signature can be refused for. No message contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is no colon between a name and its bytes.
    #[error("a {what} must be written `name:base64`, and this one has no colon")]
    NoColon {
        /// "public key", "secret key" or "signature".
        what: &'static str,
    },
    /// The name is empty or has a character that a key file can't hold.
    #[error("the key name {0:?} must be printable ASCII without spaces and colons, and not empty")]
    Name(String),
    /// What follows the colon isn't base64.
    #[error("{what} {name:?}: what follows the colon is not base64")]
    Base64 {
        /// "public key", "secret key" or "signature".
        what: &'static str,
        /// The name in front of the colon.
        name: String,
    },
    /// It decodes to the wrong number of bytes: often a public key where a secret one belongs, or the reverse.
    #[error("{what} {name:?} has {found} bytes where {expected} are needed; was another kind of key put here?")]
    Length {
        /// "public key", "secret key" or "signature".
        what: &'static str,
        /// The name in front of the colon.
        name: String,
        /// Bytes needed.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
    /// The 32 bytes are no point of the curve.
    #[error("public key {name:?} is not an Ed25519 key")]
    NotOnCurve {
        /// The name in front of the colon.
        name: String,
    },
    /// The second half of the secret key isn't the public key of the first: the file is damaged.
    #[error(
        "secret key {name:?}: its two halves do not belong together, so the file is damaged; restore or replace it"
    )]
    HalvesDiffer {
        /// The name in front of the colon.
        name: String,
    },
}

fn parse_named<const N: usize>(text: &str, what: &'static str) -> Result<(KeyName, [u8; N]), KeyError> {
    let (name, encoded) = text.split_once(':').ok_or(KeyError::NoColon { what })?;
    let name: KeyName = name.parse()?;
    let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::Base64 { what, name: name.to_string() })?;
    let found = bytes.len();
    let bytes = bytes.try_into().map_err(|_| KeyError::Length { what, name: name.to_string(), expected: N, found })?;
    Ok((name, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 8032 §7.1, TEST 2: secret seed, public key, message 72, signature; in Nix's notation.
    const SECRET: &str =
        "test-1:TM0Imyj/ltqdtsNG7BFOD1uKMZ81q6Yk2oz27U+4pvs9QBfD6EOJWpK3CqdNG368nJgszy7ElozAzVXxKvRmDA==";
    const PUBLIC: &str = "test-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";
    const SIGNATURE: &str =
        "test-1:kqAJqfDUyrhyDoILX2QlQKKye1QWUD+Ps3YiI+vbadoIWsHkPhWZbkWPNhPQ8R2MOHsurrQwKu6wDSkWErsMAA==";

    #[test]
    fn rfc_8032_vector() {
        let secret: SecretKey = SECRET.parse().unwrap();
        assert_eq!(secret.public_key().to_string(), PUBLIC);
        assert_eq!(secret.to_secret_text(), SECRET);
        let seed = [
            0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f, 0x5b, 0x8a,
            0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb,
        ];
        assert_eq!(SecretKey::from_seed("test-1".parse().unwrap(), &seed).to_secret_text(), SECRET);
        assert_eq!(secret.sign(&[0x72]).to_string(), SIGNATURE);
    }

    #[test]
    fn only_a_trusted_key_of_that_name_verifies() {
        let secret: SecretKey = SECRET.parse().unwrap();
        let other = SecretKey::from_seed("test-1".parse().unwrap(), &[7; 32]);
        let renamed = SecretKey::from_seed("test-2".parse().unwrap(), &[7; 32]);
        let keys = PublicKeys::new(vec![other.public_key(), secret.public_key()]);

        assert_eq!(keys.verify(b"r", [&secret.sign(b"r")]), Some(&secret.public_key()));
        assert_eq!(keys.verify(b"r", [&renamed.sign(b"r"), &other.sign(b"r")]), Some(&other.public_key()));
        assert_eq!(keys.verify(b"r", [&renamed.sign(b"r")]), None, "right bytes under a name nobody trusts");
        assert_eq!(keys.verify(b"s", [&secret.sign(b"r")]), None, "another message");
        assert_eq!(PublicKeys::default().verify(b"r", [&secret.sign(b"r")]), None, "no keys trust nothing");
    }

    #[test]
    fn keys_are_parsed_from_a_file_or_a_setting() {
        let keys: PublicKeys = format!("{PUBLIC} {PUBLIC}\n").parse().unwrap();
        assert_eq!(keys.iter().count(), 2);
        assert!("".parse::<PublicKeys>().unwrap().is_empty());
    }

    #[test]
    fn refusals_say_what_is_wrong() {
        let refusals = [
            ("AAAA", "a secret key must be written `name:base64`, and this one has no colon"),
            (":AAAA", "the key name \"\" must be printable ASCII without spaces and colons, and not empty"),
            ("a b:AAAA", "the key name \"a b\" must be printable ASCII without spaces and colons, and not empty"),
            ("k:!", "secret key \"k\": what follows the colon is not base64"),
            (
                "k:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=",
                "secret key \"k\" has 32 bytes where 64 are needed; was another kind of key put here?",
            ),
        ];
        for (text, message) in refusals {
            assert_eq!(text.parse::<SecretKey>().unwrap_err().to_string(), message);
        }
        let halves = SECRET.replace("RmDA==", "RmDQ==");
        assert!(matches!(halves.parse::<SecretKey>(), Err(KeyError::HalvesDiffer { .. })));
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let secret: SecretKey = SECRET.parse().unwrap();
        assert_eq!(format!("{secret:?}"), "SecretKey(test-1:…)");
    }
}
