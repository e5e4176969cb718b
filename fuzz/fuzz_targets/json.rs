//! Mutations that leave JSON readable, so that more than its parser is tried.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::Value;

/// Numbers at which something may change.
const NUMBERS: [f64; 16] = [
    0.0, -0.0, -1.0, 1e-300, 1e-12, 1e-9, 1e-6, 0.1, 0.5, 0.999_999, 1.0, 2.0, 10.0, 100.0, 4294.9,
    1e9,
];

/// Changes one value of a JSON text, or, of one text in four and of what is no JSON, some bytes.
/// Returns the new size.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(u64::from(seed) | 1 << 32);
    let Ok(mut value) = serde_json::from_slice::<Value>(&data[..size]) else {
        return fuzzer_mutate(data, size, max_size);
    };
    if dice.roll(4) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    for _ in 0..=dice.roll(3) {
        change(&mut value, &mut dice);
    }
    let text = value.to_string();
    let fits = text.len() <= max_size.min(data.len());
    if !fits {
        return fuzzer_mutate(data, size, max_size);
    }
    data[..text.len()].copy_from_slice(text.as_bytes());
    text.len()
}

/// Changes the value or something in it.
fn change(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Array(items) if !items.is_empty() && dice.roll(8) > 0 => {
            let index = dice.roll(items.len());
            change(&mut items[index], dice);
        }
        Value::Array(items) if !items.is_empty() => {
            let index = dice.roll(items.len());
            let item = items[index].clone();
            match dice.roll(2) {
                0 => items.push(item),
                _ => drop(items.remove(index)),
            }
        }
        Value::Object(fields) if !fields.is_empty() => {
            let index = dice.roll(fields.len());
            if let Some(field) = fields.values_mut().nth(index) {
                change(field, dice);
            }
        }
        Value::Bool(bool) => *bool = !*bool,
        Value::String(_) | Value::Array(_) | Value::Object(_) => {}
        Value::Null => *value = Value::from(dice.roll(4)),
        Value::Number(number) => {
            let old = number.as_f64().unwrap_or(0.0);
            *value = changed_number(old, number.is_f64(), dice);
        }
    }
}

fn changed_number(old: f64, is_float: bool, dice: &mut Dice) -> Value {
    let small = NUMBERS[dice.roll(NUMBERS.len())];
    match dice.roll(6) {
        0 => Value::Null,
        1 => Value::from(dice.roll(4)),
        _ if !is_float => Value::from(dice.roll(200)),
        2 => Value::from(old * 2.0),
        3 => Value::from(dice.roll(1_000_000) as f64 / 1e6),
        4 => Value::from(old + small),
        _ => Value::from(small),
    }
}

/// Xorshift: a mutation has to follow from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // Below `sides`, which fits.
        (self.0 % sides as u64) as usize
    }
}
