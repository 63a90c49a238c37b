//! Where the last lines of a file begin.

use std::io::SeekFrom;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

const BLOCK: u64 = 16 << 10;

/// The offset at which the last `lines` lines begin. A last line without a newline counts.
pub(super) async fn start(file: &mut File, lines: u64) -> std::io::Result<u64> {
    let size = file.metadata().await?.len();
    if lines == 0 {
        return Ok(size);
    }
    let (mut end, mut found) = (size, 0);
    let mut block = Vec::new();
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin)).await?;
        block.resize(usize::try_from(end - begin).unwrap_or_default(), 0);
        file.read_exact(&mut block).await?;
        for (index, byte) in block.iter().enumerate().rev() {
            let after = begin + u64::try_from(index).unwrap_or_default() + 1;
            // The newline at the very end closes the last line; it opens none.
            if *byte == b'\n' && after < size {
                found += 1;
                if found == lines {
                    return Ok(after);
                }
            }
        }
        end = begin;
    }
    Ok(0)
}
