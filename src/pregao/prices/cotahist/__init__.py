"""COTAHIST, B3's official daily quotes of every security: its layout, a parser, an indexed store, and the way there."""
