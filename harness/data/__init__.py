"""Data sets: a folder of Parquet shards per split, and three ways to feed them to a trainer.

`catalog` names them, `prepare` and `fetch` write them (with a `manifest`), `parquet` describes and
checks them (a `Card`), `splits` decides which rows and in which order, `loaders` gives batches.
`checksums` and `arrays` see to it that files and decoded rows are what they were. Importing this
package imports nothing heavy.
"""
