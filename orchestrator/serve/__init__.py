"""The live page: a store's running sweeps in a browser, read-only.

`server.py` opens the port, `app.py` maps addresses to pages, `live.py` keeps what the pages show up to date from
`ledger.py` (each file of the ledger is read once, each run judged once), `views.py` says it in words for the
templates in `pages/`, and `curves.py` reads one run's curve at any zoom.
"""
