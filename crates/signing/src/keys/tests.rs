//! Key files as they should be, and as they should not.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use p256::pkcs8::der::pem;
use rustix::fs::{CWD, Mode, mkfifoat};

use super::*;

fn write(dir: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn pem_of(label: &str, bytes: &[u8]) -> String {
    pem::encode_string(label, LineEnding::LF, bytes).unwrap()
}

#[test]
fn a_pair_is_written_once_read_back_and_signs() {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate().unwrap();
    let (private, public) = key.write_pair(dir.path(), "ministry").unwrap();
    assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
    let (again, shown) = (PrivateKey::read(&private).unwrap(), PublicKey::read(&public).unwrap());
    assert_eq!(again.public(), &shown);
    assert_eq!(shown.pem(), fs::read_to_string(&public).unwrap());
    let signature = again.sign(b"text");
    assert_eq!(signature, key.sign(b"text"), "the same message gives the same signature");
    assert!(shown.verifies(b"text", &signature));
    assert!(!shown.verifies(b"texT", &signature));
    assert!(!PrivateKey::generate().unwrap().public().verifies(b"text", &signature));
}

#[test]
fn a_pair_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let key = PrivateKey::generate().unwrap();
    let (private, public) = key.write_pair(dir.path(), "a").unwrap();
    let before = fs::read(&private).unwrap();
    for gone in [&private, &public] {
        fs::remove_file(gone).unwrap();
        let other = PrivateKey::generate().unwrap().write_pair(dir.path(), "a");
        assert!(matches!(other, Err(Error::KeyExists { .. })));
        fs::write(gone, "x").unwrap();
    }
    assert_ne!(fs::read(&private).unwrap(), before);
    let nowhere = key.write_pair(&dir.path().join("gone"), "a").unwrap_err().to_string();
    assert!(nowhere.contains("cannot write"), "{nowhere}");
}

#[test]
fn every_flipped_bit_of_a_signature_is_found() {
    let key = PrivateKey::generate().unwrap();
    let good = key.sign(b"text");
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.public().verifies(b"text", &bad), "bit {bit}");
    }
    for end in 0..good.len() {
        assert!(!key.public().verifies(b"text", &good[..end]));
    }
}

#[test]
fn a_private_key_that_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (private, _) = PrivateKey::generate().unwrap().write_pair(dir.path(), "a").unwrap();
    for mode in [0o640, 0o604, 0o660, 0o644, 0o610] {
        fs::set_permissions(&private, fs::Permissions::from_mode(mode)).unwrap();
        let error = PrivateKey::read(&private).unwrap_err();
        assert!(matches!(error, Error::KeyExposed { mode: found, .. } if found == mode), "{error}");
    }
    fs::set_permissions(&private, fs::Permissions::from_mode(0o400)).unwrap();
    PrivateKey::read(&private).unwrap();
}

#[test]
fn a_pair_that_cannot_be_whole_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.key"), "in the way").unwrap();
    let refused = PrivateKey::create(dir.path(), "a");
    assert!(matches!(refused, Err(Error::KeyExists { path }) if path.ends_with("a.key")));
    assert!(!dir.path().join("a.pub").exists(), "half a pair");
    fs::write(dir.path().join("b.pub"), "in the way").unwrap();
    assert!(matches!(PrivateKey::create(dir.path(), "b"), Err(Error::KeyExists { .. })));
    assert!(!dir.path().join("b.key").exists(), "a private key whose public half is another's");
    let (key, private, public) = PrivateKey::create(dir.path(), "c").unwrap();
    assert_eq!(PrivateKey::read(&private).unwrap().public(), key.public());
    assert_eq!(PublicKey::read(&public).unwrap(), *key.public());
}

#[test]
fn a_pair_is_not_written_through_links_nor_outside_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for ending in [PRIVATE, PUBLIC] {
        let name = format!("link-{ending}");
        std::os::unix::fs::symlink(&victim, dir.path().join(format!("{name}.{ending}"))).unwrap();
        assert!(matches!(PrivateKey::create(dir.path(), &name), Err(Error::KeyExists { .. })));
    }
    assert_eq!(fs::read(&victim).unwrap(), b"precious");
    for bad in ["", ".hidden", "../up", "sub/a", "-flag", "two words", "a\nb", "\u{645}"] {
        let refused = PrivateKey::create(dir.path(), bad).unwrap_err();
        assert!(matches!(&refused, Error::BadKeyName { name } if name == bad), "{refused}");
    }
}

#[test]
fn a_key_file_is_short_and_regular() {
    let dir = tempfile::tempdir().unwrap();
    let (private, public) = PrivateKey::generate().unwrap().write_pair(dir.path(), "a").unwrap();
    // A good key, and then more than any key has.
    for path in [&private, &public] {
        let long = fs::read_to_string(path).unwrap() + &"\n".repeat(1 << 16);
        fs::write(path, long).unwrap();
    }
    for error in [PrivateKey::read(&private).unwrap_err(), PublicKey::read(&public).unwrap_err()] {
        assert!(error.to_string().contains("more than 65536 bytes"), "{error}");
    }
    let pipe = dir.path().join("pipe");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    for error in [PrivateKey::read(&pipe).unwrap_err(), PublicKey::read(&pipe).unwrap_err()] {
        assert!(error.to_string().contains("no regular file"), "{error}");
    }
}

#[test]
fn keys_on_p_384_verify_and_do_not_sign() {
    use p384::pkcs8::{EncodePrivateKey, EncodePublicKey};

    let dir = tempfile::tempdir().unwrap();
    let secret = p384::SecretKey::from_slice(&[7; 48]).unwrap();
    let pem = secret.public_key().to_public_key_pem(LineEnding::LF).unwrap();
    let public = PublicKey::from_pem(Path::new("a.pub"), &pem).unwrap();
    assert_eq!(public.pem(), pem);
    let signature: p384::ecdsa::DerSignature = p384::ecdsa::SigningKey::from(&secret).sign(b"text");
    let good = signature.as_bytes();
    assert!(public.verifies(b"text", good) && !public.verifies(b"texT", good));
    for bit in 0..good.len() * 8 {
        let mut bad = good.to_vec();
        bad[bit / 8] ^= 1 << (bit % 8);
        assert!(!public.verifies(b"text", &bad), "bit {bit}");
    }
    assert!(!public.verifies(b"text", &PrivateKey::generate().unwrap().sign(b"text")));
    let pem = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    let error = PrivateKey::read(&write(dir.path(), "a.key", &pem, 0o600)).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { found, .. } if found == "a key of kind P-384"), "{error}");
}

#[test]
fn a_lost_key_is_said_to_be_lost() {
    let error = PrivateKey::read(Path::new("gone.key")).unwrap_err();
    assert!(matches!(error, Error::KeyMissing { .. }) && error.to_string().contains("stays verifiable"), "{error}");
}

#[test]
fn keys_of_openssl_are_read_and_those_of_other_kinds_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let secret = SecretKey::from_slice(&[7; 32]).unwrap();
    let sec1 = secret.to_sec1_pem(LineEnding::LF).unwrap();
    let parameters = pem_of("EC PARAMETERS", &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]);
    let pkcs8 = secret.to_pkcs8_pem(LineEnding::LF).unwrap();
    for good in [sec1.to_string(), format!("{parameters}{}", sec1.as_str()), pkcs8.to_string()] {
        let key = PrivateKey::read(&write(dir.path(), "good", &good, 0o600)).unwrap();
        assert!(key.public().verifies(b"x", &key.sign(b"x")));
    }
    let ed25519: &[u8] = &[&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20][..], &[1; 32]].concat();
    let old_encrypted = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n";
    let bad = [
        (pem_of("ENCRYPTED PRIVATE KEY", &[0; 40]), "an encrypted key, which is not supported"),
        (old_encrypted.to_owned(), "an encrypted key"),
        (pem_of("PRIVATE KEY", ed25519), "a key of kind Ed25519"),
        (pem_of("OPENSSH PRIVATE KEY", &[0; 40]), "PEM with a OPENSSH PRIVATE KEY"),
        (PublicKey::of_p256(Path::new("x"), &secret.public_key()).unwrap().pem().to_owned(), "PEM with a PUBLIC KEY"),
        (pem_of("PRIVATE KEY", &[0; 40]), "the private key"),
        (pkcs8.replace("MIG", "MIH"), "the private key"),
        ("not a key".to_owned(), "no PEM"),
        (String::new(), "no PEM"),
    ];
    for (text, words) in bad {
        let error = PrivateKey::read(&write(dir.path(), "bad", &text, 0o600)).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("P-256"), "{error}");
    }
    fs::write(dir.path().join("bad"), [0xff, 0xfe]).unwrap();
    assert!(PrivateKey::read(&dir.path().join("bad")).is_err());
    assert!(matches!(PrivateKey::read(dir.path()), Err(Error::Malformed { .. })));
}

#[test]
fn public_keys_of_other_kinds_are_named() {
    let path = Path::new("a.pub");
    let ed25519: &[u8] = &[&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], &[1; 32]].concat();
    let private = SecretKey::from_slice(&[7; 32]).unwrap().to_pkcs8_pem(LineEnding::LF).unwrap();
    let bad = [
        (pem_of("PUBLIC KEY", ed25519), "a key of kind Ed25519"),
        (pem_of("PUBLIC KEY", P521), "a key of kind P-521, which is not supported"),
        (private.to_string(), "PEM with a PRIVATE KEY"),
        (pem_of("CERTIFICATE", &[0; 9]), "PEM with a CERTIFICATE"),
        (pem_of("PUBLIC KEY", &[0; 9]), "the key"),
        ("x".to_owned(), "no PEM"),
    ];
    for (text, words) in bad {
        let error = PublicKey::from_pem(path, &text).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("a.pub"), "{error}");
    }
}

/// The beginning of a SubjectPublicKeyInfo of a key on P-521: the algorithms, and a point that nobody looks at.
const P521: &[u8] = &[0x30, 0x16, 0x30, 0x10, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x23, 3, 2, 0, 4];

#[test]
fn keys_do_not_show_their_secret() {
    let key = PrivateKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), format!("PrivateKey({})", key.public().fingerprint()));
}
