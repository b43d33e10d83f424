"""Mutants of the files that tesa reads: none may crash, hang, take all memory or end as a defect of tesa."""
