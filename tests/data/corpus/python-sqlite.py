import sqlite3

db = sqlite3.connect(":memory:")
db.execute("create table t (name text primary key, n integer)")
db.executemany("insert into t values (?, ?)", [("a", 3), ("b", 1), ("ç", 2)])
print(db.execute("select group_concat(name, '|'), sum(n) from (select * from t order by n)").fetchone())
try:
    db.execute("insert into t values ('a', 9)")
except sqlite3.IntegrityError as error:
    print(error)
