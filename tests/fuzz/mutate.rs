//! Changes inputs the way that decoders fear: bits, counts and lengths at their edges, words that trade places, parts of other inputs.

/// SplitMix64: the same seed gives the same inputs.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below the bound; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

const INTERESTING: [u64; 24] = [
    0,
    1,
    2,
    7,
    8,
    16,
    24,
    55,
    56,
    63,
    64,
    65,
    127,
    128,
    255,
    1024,
    4092,
    4096,
    0xFFFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    1 << 46,
    i64::MAX as u64,
    u64::MAX,
];

/// No input grows beyond it.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// A changed copy of one of the seeds. The first byte mostly asks for right checksums.
pub fn mutate(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = seeds[random.below(seeds.len())].clone();
    for _ in 0..1 + random.below(5) {
        change(&mut input, seeds, random);
    }
    if let Some(first) = input.first_mut() {
        if random.below(4) > 0 {
            *first |= 1;
        }
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let length = input.len();
    if length == 0 {
        input.push(random.next() as u8);
        return;
    }
    let at = random.below(length);
    match random.below(12) {
        0 | 1 => input[at] ^= 1 << random.below(8),
        2 => input[at] = random.next() as u8,
        3 | 4 => write(input, at, INTERESTING[random.below(INTERESTING.len())], random),
        5 => {
            let bytes: [u8; 8] = std::array::from_fn(|byte| input.get(at + byte).copied().unwrap_or(0));
            let near = (random.below(33) as u64).wrapping_sub(16);
            write(input, at, u64::from_le_bytes(bytes).wrapping_add(near), random);
        }
        6 => input.truncate(at),
        7 => {
            let end = (at + 1 + random.below(64)).min(length);
            input.drain(at..end);
        }
        8 => {
            let end = (at + 1 + random.below(64)).min(length);
            let again = input[at..end].to_vec();
            input.splice(at..at, again);
        }
        9 => {
            let end = (at + 1 + random.below(512)).min(length);
            input[at..end].fill(0);
        }
        10 => {
            // A part of another input, over or into this one.
            let other = &seeds[random.below(seeds.len())];
            let from = random.below(other.len());
            let part = &other[from..(from + 1 + random.below(200)).min(other.len())];
            let end = if random.below(2) == 0 { at } else { (at + part.len()).min(length) };
            input.splice(at..end, part.iter().copied());
        }
        _ => {
            let other = random.below(length);
            for byte in 0..8.min(length - at.max(other)) {
                input.swap(at + byte, other + byte);
            }
        }
    }
}

/// Over 1, 2, 4 or 8 bytes.
fn write(input: &mut [u8], at: usize, value: u64, random: &mut Random) {
    let width = (1 << random.below(4)).min(input.len() - at);
    input[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}
