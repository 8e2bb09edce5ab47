from shapes import Circle, Square

for shape in (Square(3), Circle(2)):
    print(type(shape).__name__, f"{shape.area():.3f}", type(shape).__module__)
