//! The benchmark's CSV file: a line per row and backend, a head that names the columns.

/// What one backend has made of a row.
#[derive(Debug, PartialEq)]
pub struct Bar {
    pub backend: String,
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

/// A row of the benchmark's table.
#[derive(Debug, PartialEq)]
pub struct Row {
    pub name: String,
    pub unit: String,
    pub group: String,
    pub is_higher_better: bool,
    pub budget: Option<f64>,
    pub bars: Vec<Bar>,
}

/// The fields of a line; quotes protect commas.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut is_quoted) = (vec![String::new()], false);
    for character in line.chars() {
        match character {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(String::new()),
            _ => fields.last_mut().expect("there is one from the start").push(character),
        }
    }
    fields
}

/// The rows in the order of the file.
pub fn read(text: &str) -> Result<Vec<Row>, String> {
    let mut lines = text.lines();
    let head = fields(lines.next().ok_or("the file is empty")?);
    let column = |name: &str| head.iter().position(|field| field == name).ok_or(format!("there is no column {name}"));
    let [name, unit, backend, group, better] =
        [column("row")?, column("unit")?, column("backend")?, column("group")?, column("better")?];
    let [least, median, most, budget] = [column("min")?, column("median")?, column("max")?, column("budget")?];
    let mut rows: Vec<Row> = Vec::new();
    for line in lines {
        let fields = fields(line);
        if fields.len() != head.len() {
            return Err(format!("not {} fields: {line}", head.len()));
        }
        let number = |column: usize| fields[column].parse::<f64>().map_err(|error| format!("{error}: {line}"));
        let bar = Bar {
            backend: fields[backend].clone(),
            least: number(least)?,
            median: number(median)?,
            most: number(most)?,
        };
        match rows.last_mut() {
            Some(row) if row.name == fields[name] => row.bars.push(bar),
            _ => rows.push(Row {
                name: fields[name].clone(),
                unit: fields[unit].clone(),
                group: fields[group].clone(),
                is_higher_better: fields[better] == "higher",
                budget: if fields[budget].is_empty() { None } else { Some(number(budget)?) },
                bars: vec![bar],
            }),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "row,unit,backend,rounds,min,median,max,budget,group,better\n";

    #[test]
    fn lines_of_one_row_become_one_row() {
        let text = format!(
            "{HEAD}\"append one, PROCESS\",M/s,raw,3,1,2,3,5,append,higher\n\
             \"append one, PROCESS\",M/s,lmdb,3,4,5,6,5,append,higher\n\
             open,ms,lmdb,3,7,8,9,,opening,lower\n"
        );
        let rows = read(&text).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].name, "append one, PROCESS");
        assert_eq!(rows[0].bars[1], Bar { backend: "lmdb".into(), least: 4.0, median: 5.0, most: 6.0 });
        assert_eq!((rows[0].budget, rows[0].is_higher_better), (Some(5.0), true));
        assert_eq!((rows[1].budget, rows[1].is_higher_better), (None, false));
    }

    #[test]
    fn what_is_no_such_file_is_an_error() {
        assert!(read("").is_err());
        assert!(read("row,unit\n").is_err());
        assert!(read(&format!("{HEAD}a,b,c\n")).is_err());
        assert!(read(&format!("{HEAD}a,ms,raw,3,x,8,9,,opening,lower\n")).is_err());
    }
}
