//! Who a peer is: brokers of one job show each other that they hold its key, before either hands a connection over.
//!
//! Three messages, each answering a number that the other one drew (the three-pass mutual authentication of ISO/IEC 9798-4, with
//! HMAC-SHA256 of RFC 2104 and FIPS 180-4):
//!
//! ```text
//! connecting → accepting   C, 32 random bytes
//! accepting  → connecting  A, 32 random bytes, and HMAC(key, "accepts" C A)
//! connecting → accepting   HMAC(key, "connects" A C)
//! ```
//! It says who is there at the beginning and protects no byte afterwards: who can change packets between the hosts of a job can
//! take a connection over, and is kept off by the site's network or by TLS within the connection.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const LENGTH: usize = 32;
const ACCEPTS: &[u8] = b"sirocco broker accepts\0";
const CONNECTS: &[u8] = b"sirocco broker connects\0";

/// The key that the brokers of one job share: 32 random bytes, which whoever starts them hands to each, in a file that only the
/// job's user can read or over a pipe. It never enters the confinement.
#[derive(Clone, PartialEq, Eq)]
pub struct JobKey([u8; LENGTH]);

impl std::fmt::Debug for JobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobKey(..)")
    }
}

impl JobKey {
    /// A new one, from the kernel.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random() -> io::Result<Self> {
        random().map(Self)
    }

    /// The key that another process of the job was given.
    pub fn from_bytes(bytes: [u8; LENGTH]) -> Self {
        Self(bytes)
    }

    /// To be handed on.
    pub fn bytes(&self) -> &[u8; LENGTH] {
        &self.0
    }

    fn mac(&self, label: &[u8], first: &[u8], second: &[u8]) -> io::Result<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).map_err(io::Error::other)?;
        [label, first, second].iter().for_each(|part| mac.update(part));
        Ok(mac)
    }

    /// The side that connected: shows the key and sees it.
    ///
    /// # Errors
    /// EACCES when the other side does not hold the key; else what the connection met, or ETIMEDOUT.
    pub(crate) fn connecting(&self, stream: &TcpStream, patience: Duration) -> io::Result<()> {
        let mut talk = Talk::new(stream, patience);
        let own = random()?;
        talk.say(&own)?;
        let (theirs, proof) = (talk.hear()?, talk.hear()?);
        check(self.mac(ACCEPTS, &own, &theirs)?, &proof)?;
        talk.say(&self.mac(CONNECTS, &theirs, &own)?.finalize().into_bytes())?;
        talk.end()
    }

    /// The side that accepted.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn accepting(&self, stream: &TcpStream, patience: Duration) -> io::Result<()> {
        let mut talk = Talk::new(stream, patience);
        let (theirs, own) = (talk.hear()?, random()?);
        let proof: [u8; LENGTH] = self.mac(ACCEPTS, &theirs, &own)?.finalize().into_bytes().into();
        talk.say(&[own, proof].concat())?;
        check(self.mac(CONNECTS, &own, &theirs)?, &talk.hear()?)?;
        talk.end()
    }
}

fn check(mac: Hmac<Sha256>, proof: &[u8]) -> io::Result<()> {
    mac.verify_slice(proof).map_err(|_| io::Error::from_raw_os_error(libc::EACCES))
}

fn random() -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let mut open = bytes.as_mut_slice();
    while !open.is_empty() {
        let length = rustix::rand::getrandom(&mut *open, rustix::rand::GetRandomFlags::empty())?;
        open = open.get_mut(length..).unwrap_or_default();
    }
    Ok(bytes)
}

/// A conversation that ends at a time, however slowly the other side speaks.
struct Talk<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl<'a> Talk<'a> {
    fn new(stream: &'a TcpStream, patience: Duration) -> Self {
        let now = Instant::now();
        Self { stream, until: now.checked_add(patience).unwrap_or(now) }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::Error::from_raw_os_error(libc::ETIMEDOUT)) } else { Ok(Some(left)) }
    }

    fn say(&mut self, text: &[u8]) -> io::Result<()> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write_all(text)
    }

    /// Exactly so many bytes: what follows is not ours.
    fn hear(&mut self) -> io::Result<[u8; LENGTH]> {
        let (mut bytes, mut filled) = ([0; LENGTH], 0_usize);
        while filled < LENGTH {
            self.stream.set_read_timeout(self.left()?)?;
            match self.stream.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => filled = filled.saturating_add(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }

    fn end(self) -> io::Result<()> {
        self.stream.set_read_timeout(None)?;
        self.stream.set_write_timeout(None)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn two_that_hold_the_key_agree_and_what_follows_is_whole() {
        let (mut connects, mut accepts) = pair();
        let key = JobKey::random().unwrap();
        assert_eq!(JobKey::from_bytes(*key.bytes()), key);
        let other = key.clone();
        let thread = std::thread::spawn(move || {
            other.accepting(&accepts, PATIENCE).unwrap();
            let mut text = String::new();
            accepts.read_to_string(&mut text).unwrap();
            text
        });
        key.connecting(&connects, PATIENCE).unwrap();
        connects.write_all(b"gradient").unwrap();
        drop(connects);
        assert_eq!(thread.join().unwrap(), "gradient");
    }

    #[test]
    fn another_key_is_refused_on_both_sides() {
        let (connects, accepts) = pair();
        let thread = std::thread::spawn(move || JobKey::random().unwrap().accepting(&accepts, PATIENCE));
        let refused = JobKey::random().unwrap().connecting(&connects, PATIENCE).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
        drop(connects);
        assert!(thread.join().unwrap().is_err());
    }

    #[test]
    fn who_does_not_hold_the_key_cannot_answer_with_what_it_hears() {
        let (mut stranger, accepts) = pair();
        let thread = std::thread::spawn(move || JobKey::random().unwrap().accepting(&accepts, PATIENCE));
        stranger.write_all(&[7; LENGTH]).unwrap();
        let mut answer = [0; 2 * LENGTH];
        stranger.read_exact(&mut answer).unwrap();
        stranger.write_all(&answer[LENGTH..]).unwrap();
        assert_eq!(thread.join().unwrap().unwrap_err().raw_os_error(), Some(libc::EACCES));
    }

    #[test]
    fn silence_ends() {
        let (_silent, accepts) = pair();
        let refused = JobKey::random().unwrap().accepting(&accepts, Duration::from_millis(20)).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ETIMEDOUT));
    }

    #[test]
    fn a_key_is_not_printed() {
        assert_eq!(format!("{:?}", JobKey::from_bytes([65; LENGTH])), "JobKey(..)");
    }
}
