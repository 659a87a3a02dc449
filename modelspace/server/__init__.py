"""Queries over HTTP, read-only: `modelspace serve`, the extra "serve" (Starlette and uvicorn).

`answers` turns the parameters of a request into plain values, `app` the values into responses, `snapshot` keeps
answers for as long as the registry does not change, and `processes` runs the workers. Starlette and uvicorn are
imported on use: `settings` needs neither.
"""
