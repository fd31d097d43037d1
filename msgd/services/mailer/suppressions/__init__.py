"""Who shall get no more mail: ``store`` keeps them, ``api`` shows and changes them."""
