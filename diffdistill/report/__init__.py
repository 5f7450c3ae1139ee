"""`report.html`: a run as one page that needs nothing else, made from the files in the run's folder.

`record.py` notes what only the running process knows, in `report.json`; `data.py` reads a folder; the rest draws it.
"""
