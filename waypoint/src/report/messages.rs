//! How many messages of gRPC pass in a body: counted from the frames as they pass, without a copy.
//! Pure.

/// A count of the messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    count: u64,
    /// What came of the prefix of the next message: a flag and four bytes of length.
    prefix: [u8; 5],
    have: usize,
    /// Bytes of the message that are still to come.
    left: u64,
}

impl Messages {
    /// Some more of the body.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
            self.left -= skipped as u64;
            bytes = &bytes[skipped..];
            let Some((first, rest)) = bytes.split_first() else { return };
            self.prefix[self.have] = *first;
            self.have += 1;
            bytes = rest;
            if self.have == self.prefix.len() {
                let [_, a, b, c, d] = self.prefix;
                (self.count, self.have) = (self.count + 1, 0);
                self.left = u32::from_be_bytes([a, b, c, d]).into();
            }
        }
    }

    /// Messages that have begun.
    pub fn count(&self) -> u64 {
        self.count
    }
}
