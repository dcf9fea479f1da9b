"""python predict.py … is the command pregao predict …."""

from pregao.cli.predict import main

if __name__ == "__main__":
    main()
