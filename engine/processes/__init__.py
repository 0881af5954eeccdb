"""Processes of a job: launch, rendezvous, watch for failures, and agreement on a result."""
