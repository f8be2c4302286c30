"""The words the rooms share: rows, requests, answers, manifests, and the design card of a system."""
