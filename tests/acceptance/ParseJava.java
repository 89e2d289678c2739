import com.sun.source.util.JavacTask;
import java.io.File;
import javax.tools.Diagnostic;
import javax.tools.DiagnosticCollector;
import javax.tools.JavaFileObject;
import javax.tools.ToolProvider;

/** Parses one Java file without resolving what it imports; prints its syntax errors, and exits 1 when there are any. */
public class ParseJava {
    public static void main(String[] args) throws Exception {
        var compiler = ToolProvider.getSystemJavaCompiler();
        var found = new DiagnosticCollector<JavaFileObject>();
        var files = compiler.getStandardFileManager(found, null, null);
        var task = (JavacTask) compiler.getTask(null, files, found, null, null, files.getJavaFileObjects(new File(args[0])));
        task.parse();
        found.getDiagnostics().forEach(System.err::println);
        boolean failed = found.getDiagnostics().stream().anyMatch(d -> d.getKind() == Diagnostic.Kind.ERROR);
        System.exit(failed ? 1 : 0);
    }
}
