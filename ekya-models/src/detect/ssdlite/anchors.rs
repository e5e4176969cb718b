//! The boxes that predictions start from, as in the published SSDLite configuration: for map k of six
//! a scale s of 0.2 + 0.15·k of the input, and boxes of area s² with the proportions 1, 2, ½, 3, ⅓, and
//! a square between this scale and the next (1 after the last). The first map, whose cells are many,
//! has a square of half its scale and the proportions 2 and ½ only.

/// Anchors in each cell of the six maps.
pub(super) const ANCHORS: [usize; 6] = [3, 6, 6, 6, 6, 6];

/// Scale of the first map, and how much each map adds.
const SCALE: f32 = 0.2;
const STEP: f32 = 0.15;

/// Proportions of width to height beside the square's.
const PROPORTIONS: [f32; 4] = [2.0, 0.5, 3.0, 1.0 / 3.0];

/// Centre x, centre y, width, height of every anchor in fractions of the input, in the order of a
/// [`super::network::Answer`] for maps of those rows and columns.
pub(super) fn anchors(maps: &[(usize, usize)]) -> Vec<[f32; 4]> {
    let mut anchors = Vec::new();
    for (map, &(rows, columns)) in maps.iter().enumerate() {
        let shapes = shapes(map);
        for row in 0..rows {
            for column in 0..columns {
                let x = (column as f32 + 0.5) / columns as f32;
                let y = (row as f32 + 0.5) / rows as f32;
                anchors.extend(shapes.iter().map(|&(width, height)| [x, y, width, height]));
            }
        }
    }
    anchors
}

/// Widths and heights of a map's anchors.
fn shapes(map: usize) -> Vec<(f32, f32)> {
    let scale = |map: usize| (SCALE + STEP * map as f32).min(1.0);
    let of = |scale: f32, proportion: f32| (scale * proportion.sqrt(), scale / proportion.sqrt());
    let own = scale(map);
    if map == 0 {
        let [wide, high, ..] = PROPORTIONS;
        return vec![of(own / 2.0, 1.0), of(own, wide), of(own, high)];
    }
    let mut shapes = vec![of(own, 1.0)];
    shapes.extend(PROPORTIONS.map(|proportion| of(own, proportion)));
    shapes.push(of((own * next(map, scale)).sqrt(), 1.0));
    shapes
}

/// Scale of the map after that one.
fn next(map: usize, scale: impl Fn(usize) -> f32) -> f32 {
    if map + 1 < ANCHORS.len() {
        scale(map + 1)
    } else {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: (f32, f32), expected: (f32, f32)) {
        let near = |a: f32, b: f32| (a - b).abs() < 1e-4;
        assert!(
            near(found.0, expected.0) && near(found.1, expected.1),
            "{found:?}, not {expected:?}"
        );
    }

    #[test]
    fn shapes_are_those_on_paper() {
        let first = shapes(0);
        close(first[0], (0.1, 0.1));
        close(first[1], (0.28284, 0.14142));
        close(first[2], (0.14142, 0.28284));
        let last = shapes(5);
        close(last[0], (0.95, 0.95));
        close(last[3], (1.64545, 0.54848));
        close(last[5], (0.97468, 0.97468));
        for (map, &count) in ANCHORS.iter().enumerate() {
            assert_eq!(shapes(map).len(), count);
        }
    }

    #[test]
    fn anchors_go_cell_by_cell() {
        let anchors = anchors(&[(2, 1), (1, 1)]);
        assert_eq!(anchors.len(), 2 * 3 + 6);
        assert_eq!(anchors[0][..2], [0.5, 0.25]);
        assert_eq!(anchors[5][..2], [0.5, 0.75]);
        assert_eq!(anchors[6][..2], [0.5, 0.5]);
    }
}
