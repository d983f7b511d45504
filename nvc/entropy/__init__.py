"""The one entropy coder of both codec families: integer tables, rANS, and an adaptive coder."""
