"""The distance sweep: who heard which packet at which distance, and what a key made there is worth."""
