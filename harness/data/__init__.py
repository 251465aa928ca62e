"""Data sets: a folder of Parquet shards per split, and three ways to feed them to a trainer.

`catalog` names them, `prepare` and `fetch` write them, `parquet` describes and checks them (a
`Card`), `splits` decides which rows and in which order, `loaders` gives batches. Importing this
package imports nothing heavy.
"""
