"""The HTTP side: ImageKit's purge API and the pages that operate it, on Starlette and Granian."""
