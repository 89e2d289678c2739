"""Squid, by its StoreID helper: the epoch in the key under which Squid stores, the lease in an annotation without which it does not."""
