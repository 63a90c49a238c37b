use crate::framework::{MAX_SCORE, Plugin};
use crate::pod::Pod;
use crate::snapshot::{Place, Snapshot};

/// Prefers nodes that have the pod's images; images that few nodes have count less, lest all pods go to one node.
pub(super) struct ImageLocality;

const MIB: i64 = 1024 * 1024;
/// Less than this is pulled fast enough.
const LEAST: i64 = 23 * MIB;
/// More than this per container makes no difference.
const MOST: i64 = 1000 * MIB;

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn weight(&self) -> i64 {
        1
    }

    fn score(&self, pod: &Pod, place: &Place, snapshot: &Snapshot) -> i64 {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX).max(1);
        let nodes = count(snapshot.places().count());
        let present: i64 = pod
            .images
            .iter()
            .map(|image| normalized(image))
            .filter_map(|image| Some((place.node.images.get(&image)?, snapshot.nodes_with_image(&image))))
            .map(|(size, on)| size.saturating_mul(count(on)) / nodes)
            .sum();
        let most = MOST * count(pod.images.len());
        (present.clamp(LEAST, most) - LEAST) * MAX_SCORE / (most - LEAST)
    }
}

/// A node lists images with a tag or a digest.
fn normalized(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if name.contains([':', '@']) { image.to_owned() } else { format!("{image}:latest") }
}
