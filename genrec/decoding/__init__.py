"""From a model and an index to real items: the prefix trie, request rules and beam search."""
