"""The page that shows a stream arriving piece by piece: ``nvc serve``."""
