"""COTAHIST, B3's official daily quotes of every security: file layout, download, parser, and store."""
