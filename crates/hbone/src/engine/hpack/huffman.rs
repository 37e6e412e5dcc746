//! Huffman-coded strings, four bits at a time through a table of states that the compiler makes.

use super::codes::CODES;

/// Inner nodes of the tree: one less than its leaves, which are 256 bytes and the end.
const NODES: usize = 256;
/// A child that is a byte, not a node.
const LEAF: u16 = 1 << 15;
/// A child on the way to the end, or past it: no string has it.
const NONE: u16 = u16::MAX;

/// Where one nibble leads from one node.
#[derive(Clone, Copy)]
struct Step {
    /// The node after it.
    node: u8,
    /// What it completes; no code is so short that a nibble completes two bytes.
    byte: Option<u8>,
    /// A string may end here: what is left of it are ones, fewer than eight.
    may_end: bool,
    /// No string goes this way.
    wrong: bool,
}

static STEPS: [[Step; 16]; NODES] = steps();

/// Appends what a string of code stands for; none where it is no such string.
pub(super) fn decode(code: &[u8], into: &mut Vec<u8>) -> Option<()> {
    let (mut node, mut may_end) = (0, true);
    for byte in code {
        for nibble in [byte >> 4, byte & 15] {
            let step = &STEPS[usize::from(node)][usize::from(nibble)];
            if step.wrong {
                return None;
            }
            if let Some(byte) = step.byte {
                into.push(byte);
            }
            (node, may_end) = (step.node, step.may_end);
        }
    }
    may_end.then_some(())
}

const fn tree() -> [[u16; 2]; NODES] {
    let mut nodes = [[NONE; 2]; NODES];
    let mut made = 1;
    let mut byte = 0;
    while byte < 256 {
        let (code, length) = CODES[byte];
        let mut node = 0;
        let mut bit = length;
        while bit > 1 {
            bit -= 1;
            let side = (code >> bit & 1) as usize;
            if nodes[node][side] == NONE {
                nodes[node][side] = made;
                made += 1;
            }
            node = nodes[node][side] as usize;
        }
        nodes[node][(code & 1) as usize] = LEAF | byte as u16;
        byte += 1;
    }
    nodes
}

/// Which nodes only ones lead to, fewer than eight.
const fn ends(nodes: &[[u16; 2]; NODES]) -> [bool; NODES] {
    let mut ends = [false; NODES];
    let (mut node, mut ones) = (0, 0);
    while ones < 8 {
        ends[node] = true;
        node = nodes[node][1] as usize;
        ones += 1;
    }
    ends
}

const fn steps() -> [[Step; 16]; NODES] {
    let nodes = tree();
    let ends = ends(&nodes);
    let mut steps = [[Step { node: 0, byte: None, may_end: false, wrong: true }; 16]; NODES];
    let mut from = 0;
    while from < NODES {
        let mut nibble = 0;
        while nibble < 16 {
            let mut step = Step { node: 0, byte: None, may_end: false, wrong: false };
            let mut node = from as u16;
            let mut bit = 4;
            while bit > 0 && !step.wrong {
                bit -= 1;
                let next = nodes[node as usize][nibble >> bit & 1];
                if next == NONE {
                    step.wrong = true;
                } else if next & LEAF != 0 {
                    step.byte = Some((next & 0xff) as u8);
                    node = 0;
                } else {
                    node = next;
                }
            }
            step.node = node as u8;
            step.may_end = ends[node as usize];
            steps[from][nibble] = step;
            nibble += 1;
        }
        from += 1;
    }
    steps
}

#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut bits, mut count, mut code) = (0_u64, 0, Vec::new());
    for byte in text {
        let (bits_of, length) = CODES[usize::from(*byte)];
        bits = bits << length | u64::from(bits_of);
        count += length;
        while count >= 8 {
            count -= 8;
            code.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        code.push((bits << (8 - count)) as u8 | 0xff >> count);
    }
    code
}
