"""Text to tokenizer to token shards to packed batches."""
