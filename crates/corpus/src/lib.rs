//! Sources to documents: readers, duplicates, held-out split, the quality report.
