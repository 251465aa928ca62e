"""The part `data_path`: from PNGs in Parquet to batches of floats, by every way there is."""
